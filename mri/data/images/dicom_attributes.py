"""What is read of a DICOM file: the attributes that pixels and geometry need, as plain values.

Everything else is passed over, so that nothing about the patient enters the process.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from mri.data.images.slices import MAX_BYTES, ImageError, damaged

if TYPE_CHECKING:  # pydicom loads slowly and few runs need it
    from pydicom import Dataset

# By keyword: the texts of an attribute's values, numbers as they are written; of a sequence its items; of PixelData and
# LUTData the element with its bytes. SYNTAX and CLASS are of the meta information.
Attributes = dict[str, Any]

LEVELS = (
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("VOILUTSequence", "ModalityLUTSequence", "LUTDescriptor", "LUTData"),
)
PLACE = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TOP = (
    *("SOPClassUID", "Modality", "ImageType", "BurnedInAnnotation", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PresentationLUTShape", "Rows", "Columns", "PixelAspectRatio", "PatientOrientation"),
    *("ImagerPixelSpacing", "NominalScannedPixelSpacing", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelData"),
    *(*PLACE, *LEVELS, *GROUPS),
)
# Read besides where files are put together to series, and never kept: the UID only as a digest.
GROUPING = ("SeriesInstanceUID", "InstanceNumber")
NESTED = (
    *(*PLACE, *LEVELS, *GROUPS),
    *("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"),
    *("FrameVOILUTSequence", "PixelValueTransformationSequence", "MRImageFrameTypeSequence", "FrameType"),
)
SYNTAX, CLASS = "TransferSyntaxUID", "MediaStorageSOPClassUID"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
MAX_META = 65536
PIXEL_DATA = 0x7FE00010
# Value representations that hold numbers in binary.
NUMBERS = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8"}
LONG = (b"OB", b"UN", b"OW", b"UT", b"SQ")  # with a length of four bytes


def read(source: bytes | BinaryIO, name: str, grouping: bool = False) -> Attributes:
    """Return the attributes of a DICOM file. Raises ImageError for a damaged one, or one that unpacks to too much.

    grouping: read what puts files together to series, and no pixels.
    """
    from pydicom import filereader

    stream: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        syntax, storage, start = _meta(stream.read(MAX_META))
        stream.seek(start)
        if syntax == DEFLATED:
            stream = io.BytesIO(_inflated(stream, name))
        implicit, little = _encoding(stream, syntax)
        wanted = _tags((*TOP, *GROUPING) if grouping else TOP)
        stop = (lambda tag, *_: tag == PIXEL_DATA) if grouping else None
        dataset = filereader.read_dataset(stream, implicit, little, stop_when=stop, specific_tags=list(wanted))
        implicit, little = cast(tuple[bool, bool], dataset.original_encoding)  # what it turned out to be
        attributes = _plain(dataset, wanted)
    except ImageError:
        raise
    except Exception:  # parsers raise whatever they happen to meet in a damaged file
        raise damaged(name, "DICOM") from None
    if syntax in (DEFLATED, ""):
        syntax = IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN
    return attributes | {SYNTAX: [syntax], CLASS: [storage]}


def texts(attributes: Attributes, keyword: str) -> list[str]:
    """Return the values of an attribute as text, [] when there are none."""
    return cast(list[str], attributes.get(keyword, []))


def text(attributes: Attributes, keyword: str) -> str:
    """Return an attribute's values as one text, as DICOM joins them."""
    return "\\".join(texts(attributes, keyword))


def numbers(attributes: Attributes, keyword: str) -> list[float]:
    """Return the numbers of an attribute, whose commas are points; [] when there are none, or one of them is none."""
    try:
        return [float(value.replace(",", ".")) for value in texts(attributes, keyword)]
    except ValueError:
        return []


def first(attributes: Attributes, keyword: str) -> float | None:
    """Return the first number of an attribute, None when there is none."""
    return next(iter(numbers(attributes, keyword)), None)


def integer(attributes: Attributes, keyword: str, default: int) -> int:
    """Return the first number of an attribute as an integer; `default` where there is none, or nonsense."""
    number = first(attributes, keyword)
    return int(number) if number is not None and abs(number) < 2**32 else default


def binary(element: Any, kind: str) -> np.ndarray:
    """Return the numbers of an element's bytes. kind: as in `NUMBERS`."""
    return np.frombuffer(element.value, f"{'<' if element.is_little_endian else '>'}{kind}")


@functools.cache
def _tags(keywords: tuple[str, ...]) -> dict[Any, str]:
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import BaseTag

    return {BaseTag(cast(int, tag_for_keyword(keyword))): keyword for keyword in keywords}


def _meta(start: bytes) -> tuple[str, str, int]:
    """Transfer syntax and storage class of the file's meta information ("" where there is none), and where it ends."""
    at = 132 if start[128:132] == b"DICM" else 4 if start[:4] == b"DICM" else 0
    values = {b"\x10\0": "", b"\2\0": ""}
    while len(start) >= at + 12 and start[at : at + 2] == b"\2\0":
        vr = start[at + 4 : at + 6]
        value = at + (12 if vr in LONG else 8)
        short = vr.isalpha() and vr not in LONG
        length = struct.unpack_from("<H" if short else "<I", start, at + 6 if short else value - 4)[0]
        values[start[at + 2 : at + 4]] = start[value : value + length].decode("latin-1").strip("\0 ")
        at = value + length
    return values[b"\x10\0"], values[b"\2\0"], at


def _encoding(stream: Any, syntax: str) -> tuple[bool, bool]:
    """Whether value representations are left out, and whether it is little-endian; guessed where no syntax tells."""
    if syntax:
        return syntax == IMPLICIT, syntax != BIG_ENDIAN
    start = stream.read(6)
    stream.seek(-len(start), io.SEEK_CUR)
    return not start[4:6].isalpha(), start[:1] != b"\0" or start[1:2] == b"\0"


def _inflated(stream: Any, name: str) -> bytes:
    """A deflated file without its meta information, unpacked no further than a slice may be large."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpacker.decompress(stream.read(), MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ImageError(f"{name}: unpacks to more than {MAX_BYTES // 10**6} MB: too large for a slice")
    return data


def _plain(dataset: Dataset, wanted: dict[Any, str]) -> Attributes:
    """The wanted attributes of a dataset and, of its sequences' items, those in `NESTED`."""
    attributes: Attributes = {}
    for tag, keyword in [(tag, wanted[tag]) for tag in set(dataset.keys()) & set(wanted)]:
        if keyword.endswith("Sequence"):
            attributes[keyword] = [_plain(item, _tags(NESTED)) for item in dataset[tag].value or []]
            continue
        element = dataset.get_item(tag)
        attributes[keyword] = element if keyword in ("PixelData", "LUTData") else _values(element)
    return attributes


def _values(element: Any) -> list[str]:
    """The texts of an element's values, whatever scanners wrote; pydicom refuses some."""
    from pydicom.datadict import dictionary_VR

    vr = dictionary_VR(element.tag) if element.VR in (None, "UN") else element.VR
    # Of pixel levels, unsigned or signed: the sign is put right where they are used.
    kind = NUMBERS.get(vr[:2]) if isinstance(element.value, bytes) else None
    values = binary(element, kind) if kind else (element.value or b"").decode("latin-1").split("\\")
    return [value for value in (str(item).strip("\0 \t\r\n") for item in values) if value]
