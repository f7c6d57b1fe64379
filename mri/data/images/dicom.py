"""DICOM: magnetic resonance slices and multi-frame files in every transfer syntax, and what is not one of them."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import special

from mri.data.images import kinds
from mri.data.images.levels import in_strips, stretch
from mri.data.images.slices import (
    MAX_BYTES,
    MAX_SERIES_BYTES,
    MAX_SLICES,
    Frame,
    Geometry,
    ImageError,
    check_count,
    check_decoded,
    damaged,
    floating,
    words_only,
)

if TYPE_CHECKING:  # pydicom loads slowly and few runs need it
    from pydicom import Dataset

# All that is read of a file, at its top and in the functional groups of its frames; everything else is passed over, so
# that nothing about the patient enters the process.
LEVELS = (
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("VOILUTSequence", "ModalityLUTSequence", "LUTDescriptor", "LUTData"),
)
PLACE = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
ATTRIBUTES = (
    *("SOPClassUID", "Modality", "ImageType", "BurnedInAnnotation", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PresentationLUTShape", "Rows", "Columns", "PixelAspectRatio", "PatientOrientation"),
    *("ImagerPixelSpacing", "NominalScannedPixelSpacing", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelData"),
    *(*PLACE, *LEVELS, *GROUPS),
)
# Read besides where files are put together to series, and never kept: the UID only as a digest.
GROUPING = ("SeriesInstanceUID", "InstanceNumber")
NESTED = frozenset(
    (
        *PLACE,
        *LEVELS,
        *GROUPS,
        *("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"),
        *("FrameVOILUTSequence", "PixelValueTransformationSequence", "MRImageFrameTypeSequence", "FrameType"),
    )
)
# Storage classes that hold no magnetic resonance image, by the beginning of their UID, and what to do about each.
STORAGE = "1.2.840.10008.5.1.4.1.1."
CLASSES = (
    ("1.2.840.10008.1.3.10", *kinds.REMEDIES["DICOMDIR"]),
    (STORAGE + "66.4", "a DICOM segmentation", "give the images that it was drawn on"),
    (STORAGE + "66.7", "a DICOM segmentation", "give the images that it was drawn on"),
    (STORAGE + "66", "DICOM raw or registration data", "give the images"),
    (STORAGE + "30", "a DICOM parametric map", "give the images that it was computed from"),
    (STORAGE + "88", "a DICOM structured report", "give the images that it reports on"),
    (STORAGE + "11", "a DICOM presentation state, which only says how others are shown", "give the images it names"),
    (STORAGE + "104", "a document packed in DICOM", "give the images"),
    (STORAGE + "4.2", "DICOM spectroscopy, which holds spectra and no picture", "give the images"),
    (STORAGE + "481", "a DICOM radiotherapy object", "give the images that it was planned on"),
    (STORAGE + "9", "DICOM waveforms", "give the images"),
)
MODALITIES = {
    "CT": "computed tomography",
    "CR": "an X-ray image",
    "DX": "an X-ray image",
    "MG": "a mammogram",
    "XA": "an angiogram",
    "US": "ultrasound",
    "NM": "nuclear medicine",
    "PT": "positron emission tomography",
    "SEG": "a segmentation",
    "SR": "a structured report",
    "PR": "a presentation state",
    "OT": "another kind of picture",
    "RTDOSE": "a radiotherapy dose",
    "RTSTRUCT": "radiotherapy contours",
    "RTPLAN": "a radiotherapy plan",
}
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
IMPLICIT = "1.2.840.10008.1.2"
NATIVE = (IMPLICIT, "1.2.840.10008.1.2.1", BIG_ENDIAN, DEFLATED)
RLE = "1.2.840.10008.1.2.5"
JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
# Letters of PatientOrientation as directions in RAS.
LETTERS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "H": (0, 0, 1),
    "S": (0, 0, 1),
    "F": (0, 0, -1),
    "I": (0, 0, -1),
}
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Header:
    """What puts files and frames together to series.

    series: digest of what slices of one series share. kind: ImageType's or FrameType's words. size: (rows, columns).
    position: along the plane's normal, mm. order: by what frames are sorted where positions are unknown.
    """

    series: str
    kind: tuple[str, ...]
    size: tuple[int, int]
    directions: tuple[float, ...]
    position: float | None
    order: int
    frames: int


def read_slice(data: bytes, name: str) -> Frame:
    """Return the only frame of a DICOM file. Raises ImageError for a multi-frame file and for what is no MR slice."""
    dataset = _dataset(data, name, ATTRIBUTES)
    _check(dataset, name)
    count = frame_count(dataset)
    if count > 1:
        raise ImageError(
            f"{name}: multi-frame DICOM with {count} frames, not one slice: give a slice, or the file to "
            f"{kinds.PREDICT}"
        )
    return _frames(dataset, name)(0, name)


def read_frames(data: bytes, name: str) -> Callable[[int, str], Frame]:
    """Return the function that decodes a frame of a DICOM file, given its index and what messages call it.

    Both raise ImageError.
    """
    dataset = _dataset(data, name, ATTRIBUTES)
    _check(dataset, name)
    return _frames(dataset, name)


def headers(data: bytes | io.BufferedIOBase, name: str) -> list[Header]:
    """Return what a DICOM file tells of each of its frames, without their pixels. Raises ImageError as `read_slice`."""
    dataset = _dataset(data, name, (*ATTRIBUTES, *GROUPING), pixels=False)
    _check(dataset, name, pixels=False)
    count = frame_count(dataset)
    if count > MAX_SLICES:
        raise ImageError(f"{name}: {count} frames are too many: at most {MAX_SLICES}")
    series = hashlib.sha256(_text(dataset, "SeriesInstanceUID").encode()).hexdigest() if count == 1 else ""
    series = series if _text(dataset, "SeriesInstanceUID") else ""
    number = int((_numbers(dataset, "InstanceNumber") or [0])[0])
    return [_header(dataset, index, series, number, count) for index in range(count)]


def frame_count(dataset: Dataset) -> int:
    """Return how many frames a file says it has; 1 when it says nothing or nonsense."""
    numbers = _numbers(dataset, "NumberOfFrames")
    return int(numbers[0]) if numbers and 1 <= numbers[0] < 2**31 else 1


def _header(dataset: Dataset, index: int, series: str, number: int, count: int) -> Header:
    geometry, _ = _geometry(dataset, index)
    turn = geometry.turn()
    directions: tuple[float, ...] = ()
    if turn is not None and geometry.down is not None and geometry.right is not None:
        directions = tuple(float(x) for x in np.round([*geometry.down, *geometry.right], 2) + 0.0)
    return Header(
        series,
        _kind(dataset, index),
        (int(dataset.Rows), int(dataset.Columns)),
        directions,
        None if turn is None else turn.position,
        index if count > 1 else number,
        count,
    )


# Parsing --------------------------------------------------------------------------------------------------------------


def _dataset(data: bytes | io.BufferedIOBase, name: str, tags: tuple[str, ...], pixels: bool = True) -> Any:
    """The wanted attributes of a file; every other one, nested ones too, is dropped unread."""
    import pydicom

    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        syntax, storage, start = _meta(stream)
        stream.seek(0)
        if syntax == DEFLATED:
            stream = io.BytesIO(_inflated(stream, start, name))
        # `force` reads files without the preamble or the meta information too; what is no DICOM then fails the checks.
        dataset = pydicom.dcmread(stream, specific_tags=list(tags), force=True, stop_before_pixels=not pixels)
        _drop_nested(dataset)
        implicit, little = dataset.original_encoding
        if syntax in (DEFLATED, ""):  # what was guessed from the bytes
            syntax = IMPLICIT if implicit else NATIVE[1] if little else BIG_ENDIAN
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(storage)
        if implicit:
            pydicom.filewriter.correct_ambiguous_vr(dataset, bool(little))
    except ImageError:
        raise
    except Exception:  # parsers raise whatever they happen to meet in a damaged file
        raise damaged(name, "DICOM") from None
    return dataset


def _meta(stream: Any) -> tuple[str, str, int]:
    """Transfer syntax and storage class of the file's meta information ("" where there is none), and where it ends."""
    start = stream.read(HEAD_OF_META)
    at = 132 if start[128:132] == b"DICM" else 4 if start[:4] == b"DICM" else 0
    values = {b"\x10\0": "", b"\2\0": ""}
    while len(start) >= at + 8 and start[at : at + 2] == b"\2\0":
        long = start[at + 4 : at + 6] in (b"OB", b"UN", b"OW", b"UT", b"SQ")
        (length,) = struct.unpack_from("<I", start, at + 8) if long else struct.unpack_from("<H", start, at + 6)
        value = at + (12 if long else 8)
        values[start[at + 2 : at + 4]] = start[value : value + length].decode("latin-1").strip("\0 ")
        at = value + length
    return values[b"\x10\0"], values[b"\2\0"], at


HEAD_OF_META = 65536


def _inflated(stream: Any, start: int, name: str) -> bytes:
    """A deflated file without its meta information, unpacked no further than a slice may be large."""
    stream.seek(start)
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpacker.decompress(stream.read(), MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ImageError(f"{name}: unpacks to more than {MAX_BYTES // 10**6} MB: too large for a slice")
    return data


def _drop_nested(dataset: Dataset) -> None:
    """Drop from all sequences what isn't in NESTED: pydicom chooses attributes at the top only."""
    from pydicom.datadict import keyword_for_tag

    for element in [dataset[tag] for tag in list(dataset.keys()) if keyword_for_tag(tag).endswith("Sequence")]:
        for item in element.value or []:
            for tag in list(item.keys()):
                if keyword_for_tag(tag) not in NESTED:
                    del item[tag]
            _drop_nested(item)


def _text(dataset: Dataset, keyword: str) -> str:
    return "\\".join(_parts(dataset, keyword))


def _parts(dataset: Dataset | None, keyword: str) -> list[str]:
    """The values of an attribute as text, however it was written."""
    from pydicom.datadict import dictionary_VR

    element = None if dataset is None else dataset.get_item(keyword)
    if element is None or element.value is None:
        return []
    value = element.value
    if isinstance(value, bytes):  # not yet parsed: pydicom refuses numbers that scanners do write
        if (element.VR or dictionary_VR(element.tag)) in BINARY:
            value = dataset[keyword].value  # type: ignore[index]
        else:
            value = value.decode("latin-1")
    values = value.split("\\") if isinstance(value, str) else value if _is_list(value) else [value]
    return [text for text in (str(item).strip("\0 \t\r\n") for item in values) if text]


BINARY = ("FD", "FL", "US", "SS", "UL", "SL", "OB", "OW")


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue"


def _numbers(dataset: Dataset | None, keyword: str) -> list[float]:
    """The numbers of an attribute; [] when there are none, or one of them is none. A decimal comma is a point."""
    try:
        return [float(text.replace(",", ".")) for text in _parts(dataset, keyword)]
    except ValueError:
        return []


def _first(dataset: Dataset | None, keyword: str) -> float | None:
    return next(iter(_numbers(dataset, keyword)), None)


# What is refused ------------------------------------------------------------------------------------------------------


def _check(dataset: Any, name: str, pixels: bool = True) -> None:
    """Refuse what is no MR image without text on it."""
    storage = _text(dataset, "SOPClassUID") or str(dataset.file_meta.MediaStorageSOPClassUID)
    for beginning, what, remedy in CLASSES:
        if storage == beginning or storage.startswith(beginning + "."):
            raise ImageError(f"{name}: {what}: {remedy}")
    modality = (_text(dataset, "Modality") or "missing")[:16]
    if modality not in ("MR", "missing"):
        what = MODALITIES.get(modality, "")
        named = f" ({what})" if what else ""
        raise ImageError(f"{name}: modality is {modality}, not MR{named}: give a magnetic resonance image")
    present = ("PixelData" in dataset or not pixels) and dataset.get("Rows") and dataset.get("Columns")
    if not present:
        raise ImageError(f"{name}: not a DICOM image (no pixels in it): give the slice's own file")
    if modality == "missing":
        raise ImageError(f"{name}: modality is missing, not MR: only magnetic resonance images are read")
    colour = _text(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    if (_first(dataset, "SamplesPerPixel") or 1) != 1 or colour not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"{name}: colour DICOM ({colour[:16]}): export the original greyscale slice")
    if _text(dataset, "BurnedInAnnotation").upper() == "YES":
        raise ImageError(
            f"{name}: BurnedInAnnotation is YES, text in the picture may name the patient: export it without annotation"
        )
    if "MOSAIC" in _kind(dataset, 0):
        raise ImageError(f"{name}: a mosaic of many slices in one picture: convert it with dcm2niix, which parts them")
    if colour == "MONOCHROME2" and _text(dataset, "PresentationLUTShape") == "INVERSE":
        raise ImageError(f"{name}: says that high levels are bright and that they are dark: export it again")


def _kind(dataset: Any, index: int) -> tuple[str, ...]:
    """The words of ImageType, or of a frame's own FrameType."""
    group = _group(dataset, index, "MRImageFrameTypeSequence", "FrameType")
    words = _parts(group, "FrameType") or _parts(dataset, "ImageType")
    return tuple(word.upper() for word in words)


def _group(dataset: Any, index: int, sequence: str, keyword: str) -> Any:
    """The part of a dataset that holds `keyword` for a frame: its own group, the one that frames share, or the top."""
    shared = dataset.get(GROUPS[0]) or []
    groups = dataset.get(GROUPS[1]) or []
    for group in (*groups[index : index + 1], *shared[:1]):
        for item in (group.get(sequence) or [])[:1]:
            if keyword in item:
                return item
    return dataset


# Geometry -------------------------------------------------------------------------------------------------------------


def _geometry(dataset: Any, index: int) -> tuple[Geometry, tuple[str, ...]]:
    """Where a frame lies, and notes on what its spacing had to be assumed."""
    row_mm, column_mm, notes = _spacing(dataset, index)
    place = _group(dataset, index, "PlaneOrientationSequence", "ImageOrientationPatient")
    cosines = _numbers(place, "ImageOrientationPatient")
    origin = _numbers(_group(dataset, index, "PlanePositionSequence", "ImagePositionPatient"), "ImagePositionPatient")
    if len(cosines) == 6 and np.isfinite(cosines).all():
        right, down = np.array(cosines[:3]) * LPS_TO_RAS, np.array(cosines[3:]) * LPS_TO_RAS
    else:
        letters = [LETTERS.get(text[:1].upper()) for text in _parts(dataset, "PatientOrientation")]
        if len(letters) != 2 or None in letters:
            return Geometry(row_mm=row_mm, column_mm=column_mm), notes
        right, down = (np.array(letter, float) for letter in letters)
    known = len(origin) == 3 and np.isfinite(origin).all()
    return Geometry(down, right, np.array(origin) * LPS_TO_RAS if known else None, row_mm, column_mm), notes


def _spacing(dataset: Any, index: int) -> tuple[float | None, float | None, tuple[str, ...]]:
    """Spacing of rows and of columns in mm (None where unknown), and a note where it had to be assumed."""
    measures = _group(dataset, index, "PixelMeasuresSequence", "PixelSpacing")
    for part, keyword in (
        (measures, "PixelSpacing"),
        (dataset, "ImagerPixelSpacing"),
        (dataset, "NominalScannedPixelSpacing"),
    ):
        numbers = _numbers(part, keyword)
        if numbers and all(0 < number < math.inf for number in numbers[:2]):
            return numbers[0], numbers[min(1, len(numbers) - 1)], ()
    ratio = _numbers(dataset, "PixelAspectRatio")
    if len(ratio) == 2 and all(0 < number < math.inf for number in ratio):
        size = ratio[1]
        return ratio[0] / size, 1.0, ("pixel spacing is not in the file: only its aspect ratio is known",)
    return None, None, ("pixel spacing is not in the file: pixels are taken to be square",)


# Pixels ---------------------------------------------------------------------------------------------------------------


def _frames(dataset: Any, name: str) -> Callable[[int, str], Frame]:
    """The function that decodes a frame of a checked dataset."""
    _check_pixels(dataset, name)
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    encoded = _encoded(dataset, frame_count(dataset), name) if compressed else []

    def frame(index: int, name: str) -> Frame:
        with words_only(name, "DICOM"):
            stored = _decoded(dataset, encoded[index], name) if compressed else _native(dataset, index, name)
            return _frame(dataset, index, _significant(stored, dataset, native=not compressed), name)

    return frame


def _check_pixels(dataset: Any, name: str) -> None:
    """Refuse what decodes to more than a slice, and bits that no integer has; fill in what the standard implies."""
    width, height = int(dataset.Columns), int(dataset.Rows)
    allocated = _first(dataset, "BitsAllocated") or 0
    check_count(width, height, name)
    if allocated not in (8, 16, 32):
        raise ImageError(f"{name}: {allocated:g} bits a pixel, not a greyscale image (8, 16 or 32): export it again")
    check_decoded(width * height, allocated / 8, name)
    if width * height * allocated / 8 * min(frame_count(dataset), MAX_SLICES + 1) > MAX_SERIES_BYTES:
        raise ImageError(f"{name}: too many frames: at most {MAX_SERIES_BYTES // 10**6} MB of grey levels")
    stored = _first(dataset, "BitsStored") or allocated
    if not 1 <= stored <= allocated:
        raise ImageError(f"{name}: {stored:g} of {allocated:g} bits are said to be used: export it again")
    dataset.BitsStored = int(stored)
    dataset.SamplesPerPixel = 1
    dataset.PixelRepresentation = int(_first(dataset, "PixelRepresentation") or 0)
    if not _text(dataset, "PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2"


def _native(dataset: Any, index: int, name: str) -> np.ndarray:
    """Stored levels of an uncompressed frame, (H, W)."""
    big = dataset.file_meta.TransferSyntaxUID == BIG_ENDIAN
    size = dataset.BitsAllocated // 8
    dtype = np.dtype(f"{'>' if big else '<'}{'i' if dataset.PixelRepresentation else 'u'}{size}")
    length = dataset.Rows * dataset.Columns * size
    data = dataset.PixelData
    if big and size == 1 and dataset["PixelData"].VR == "OW":  # bytes lie in words
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    if len(data) < length * (index + 1):
        raise damaged(name, "DICOM")
    return np.frombuffer(data, dtype, dataset.Rows * dataset.Columns, length * index).reshape(
        dataset.Rows, dataset.Columns
    )


def _encoded(dataset: Any, count: int, name: str) -> list[bytes]:
    """The compressed frames of a file."""
    from pydicom import encaps

    try:
        if count == 1:  # whatever there is more
            return [encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)]
        return list(encaps.generate_frames(dataset.PixelData, number_of_frames=count))
    except Exception:
        raise damaged(name, "DICOM") from None


def _decoded(dataset: Any, frame: bytes, name: str) -> np.ndarray:
    """Stored levels of a compressed frame, (H, W)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    shape = (int(dataset.Rows), int(dataset.Columns))
    if syntax == RLE:
        return _run_lengths(dataset, frame)
    if syntax not in (*JPEG, *JPEG_LS, *JPEG_2000):
        kind = syntax.name if syntax.is_transfer_syntax else "unknown"
        raise ImageError(f"{name}: pixels compressed as {kind!r} cannot be decoded: save it uncompressed")
    precision, *size = _claimed(frame)
    if tuple(size) != shape:
        claim = f"the header says {shape[1]}x{shape[0]} and the compressed picture is {size[1]}x{size[0]}"
        raise ImageError(f"{name}: {claim}: export it again")
    if syntax in JPEG[:2] and precision == 8:
        with Image.open(io.BytesIO(frame), formats=("JPEG",)) as picture:
            values = np.asarray(picture)
    else:
        values = _codec(syntax, name)(frame)
    if values.shape != shape or values.dtype.kind not in "iu":
        raise damaged(name, "DICOM")
    return values


def _codec(syntax: Any, name: str) -> Any:
    """The function that decodes frames of a transfer syntax."""
    try:
        import imagecodecs
    except ImportError:
        raise ImageError(
            f"{name}: pixels compressed as {syntax.name!r} need the package imagecodecs: "
            "`pip install imagecodecs`, or save it uncompressed"
        ) from None
    if syntax in JPEG_LS:
        return imagecodecs.jpegls_decode
    return imagecodecs.jpeg2k_decode if syntax in JPEG_2000 else imagecodecs.jpeg8_decode


def _run_lengths(dataset: Any, frame: bytes) -> np.ndarray:
    """Levels of a run-length encoded frame; every segment unpacks to no more than the pixels there are."""
    size, pixels = dataset.BitsAllocated // 8, dataset.Rows * dataset.Columns
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != size:
        raise ValueError("segments")
    offsets = [*offsets[:count], len(frame)]
    planes = np.empty((size, pixels), np.uint8)  # the high byte first
    for plane, start, stop in zip(planes, offsets, offsets[1:], strict=False):
        _unpack_bits(frame[start:stop], plane)
    whole = np.zeros(pixels, f"<u{size}")
    for plane in planes:
        whole = (whole << 8 if size > 1 else whole) | plane.astype(whole.dtype)
    return whole.reshape(dataset.Rows, dataset.Columns)


def _unpack_bits(segment: bytes, plane: np.ndarray) -> None:
    """Fill a plane from a PackBits segment. Raises IndexError when it is too short."""
    at = filled = 0
    while filled < len(plane):
        control = segment[at]
        if control < 128:
            run: Any = np.frombuffer(segment, np.uint8, min(control + 1, len(segment) - at - 1), at + 1)
            length, at = control + 1, at + 2 + control
        elif control > 128:
            run, length, at = segment[at + 1], 257 - control, at + 2
        else:
            at += 1
            continue
        length = min(length, len(plane) - filled)
        plane[filled : filled + length] = run if isinstance(run, int) else run[:length]
        filled += length


def _claimed(frame: bytes) -> tuple[int, int, int]:
    """Bits, height and width as the header of a JPEG, JPEG-LS or JPEG 2000 stream says."""
    start = frame.find(b"\xff\x4f\xff\x51", 0, 256)
    if start >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return frame[start + 42] % 128 + 1, bottom - top, right - left
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, height, width = struct.unpack_from(">BHH", frame, at + 4)
            return bits, height, width
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    raise ValueError("no header")


def _significant(values: np.ndarray, dataset: Any, native: bool) -> np.ndarray:
    """Levels of just the bits that are in use (BitsStored, HighBit), signed where the file says so."""
    allocated, bits, signed = 8 * values.dtype.itemsize, dataset.BitsStored, dataset.PixelRepresentation
    high = _first(dataset, "HighBit") if native else None
    shift = int(high) + 1 - bits if high is not None and bits - 1 < high < allocated else 0
    if bits >= allocated and not shift:
        return values.view(f"{values.dtype.byteorder}i{values.dtype.itemsize}") if signed else values
    unsigned = values.view(values.dtype.str.replace("i", "u"))
    levels = (unsigned >> shift) & unsigned.dtype.type(2**bits - 1)
    if not signed:
        return levels
    sign = 2 ** (bits - 1)
    return (levels.astype(np.int64 if bits > 16 else np.int32) ^ sign) - sign


# Grey levels ----------------------------------------------------------------------------------------------------------


def _frame(dataset: Any, index: int, stored: np.ndarray, name: str) -> Frame:
    """A frame from its stored levels: rescaled, then through its table or first window where it has a usable one."""
    from pydicom.pixels import processing

    values = _without_padding(stored, dataset)
    transform = _group(dataset, index, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = _first(transform, "RescaleSlope"), _first(transform, "RescaleIntercept")
    if slope == 0 or not all(math.isfinite(number) for number in (slope or 1.0, intercept or 0.0)):
        raise ImageError(f"{name}: rescale slope {slope:g}, which makes all levels equal or none: export it again")
    tables = dataset.get("ModalityLUTSequence")

    def rescaled(part: np.ndarray) -> np.ndarray:
        if tables:
            return processing.apply_modality_lut(part, dataset)
        if slope is None and intercept is None:
            return part
        return part.astype(np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)

    geometry, notes = _geometry(dataset, index)
    colour = dataset.PhotometricInterpretation
    inverted = colour == "MONOCHROME1"
    mode = f"DICOM {colour}"
    window = _group(dataset, index, "FrameVOILUTSequence", "WindowCenter")
    if window.get("VOILUTSequence"):
        levels = in_strips(lambda part: processing.apply_voi(rescaled(part), window), values, np.float32)
        return floating(levels, mode, name, geometry, inverted=inverted, notes=notes)
    centre, width = _first(window, "WindowCenter"), _first(window, "WindowWidth")
    if centre is None or width is None or not math.isfinite(centre) or not 1 < width < math.inf:
        levels = in_strips(rescaled, values, np.float32)
        return floating(levels, mode, name, geometry, inverted=inverted, notes=notes)
    function = _text(window, "VOILUTFunction") or "LINEAR"
    grey = in_strips(lambda part: _window(rescaled(part), centre, width, function), values, np.uint8)
    off = f"the window of the file (centre {centre:g}, width {width:g}) lies off its grey levels"
    return Frame(grey, mode, name, geometry, inverted, notes, off if values.min() < values.max() else "")


def _window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Values through a DICOM window, uint8 (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return np.rint(255 * special.expit(4 * (values - centre) / width)).astype(np.uint8)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return stretch(values, centre - width / 2, centre + width / 2)


def _without_padding(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """Stored levels with those outside the scanned field (PixelPaddingValue) set to the darkest scanned one."""
    padding, limit = _first(dataset, "PixelPaddingValue"), _first(dataset, "PixelPaddingRangeLimit")
    if padding is None:
        return stored
    low, high = sorted((padding, padding if limit is None else limit))
    outside = (stored >= low) & (stored <= high)
    if outside.all() or not outside.any():
        return stored
    return np.where(outside, stored[~outside].min(), stored)
