"""DICOM: magnetic resonance slices and multi-frame files, and what is not one of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from scipy import special

from mri.data.images import dicom_pixels, kinds
from mri.data.images.dicom_attributes import (
    CLASS,
    GROUPS,
    Attributes,
    binary,
    first,
    integer,
    numbers,
    read,
    text,
    texts,
)
from mri.data.images.dicom_pixels import frame_count
from mri.data.images.levels import in_strips, stretch
from mri.data.images.slices import MAX_SLICES, Frame, Geometry, ImageError, floating, words_only

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
    attributes = _checked(data, name)
    count = frame_count(attributes)
    if count > 1:
        raise ImageError(
            f"{name}: multi-frame DICOM with {count} frames, not one slice: give a slice, or the file to "
            f"{kinds.PREDICT}"
        )
    return _frames(attributes, name)(0, name)


def read_frames(data: bytes, name: str) -> Callable[[int, str], Frame]:
    """Return the function that decodes a frame of a DICOM file, given its index and what messages call it.

    Both raise ImageError.
    """
    return _frames(_checked(data, name), name)


def headers(data: bytes | BinaryIO, name: str) -> list[Header]:
    """Return what a DICOM file tells of each of its frames, without their pixels. Raises ImageError as `read_slice`."""
    attributes = _checked(data, name, grouping=True)
    count = frame_count(attributes)
    if count > MAX_SLICES:
        raise ImageError(f"{name}: {count} frames are too many: at most {MAX_SLICES}")
    uid = text(attributes, "SeriesInstanceUID") if count == 1 else ""
    series = hashlib.sha256(uid.encode()).hexdigest() if uid else ""
    number = integer(attributes, "InstanceNumber", 0)
    return [_header(attributes, index, series, index if count > 1 else number) for index in range(count)]


def _header(attributes: Attributes, index: int, series: str, order: int) -> Header:
    geometry, _ = _geometry(attributes, index)
    turn = geometry.turn()
    directions: tuple[float, ...] = ()
    if turn is not None and geometry.down is not None and geometry.right is not None:
        directions = tuple(float(x) for x in np.round([*geometry.down, *geometry.right], 2) + 0.0)
    position = None if turn is None else turn.position
    size = (integer(attributes, "Rows", 0), integer(attributes, "Columns", 0))
    return Header(series, _kind(attributes, index), size, directions, position, order, frame_count(attributes))


# What is refused ------------------------------------------------------------------------------------------------------


def _checked(data: bytes | BinaryIO, name: str, grouping: bool = False) -> Attributes:
    """The attributes of a file. Raises ImageError for what is no MR image, or has text on it."""
    attributes = read(data, name, grouping)
    storage = text(attributes, "SOPClassUID") or text(attributes, CLASS)
    for beginning, what, remedy in CLASSES:
        if storage == beginning or storage.startswith(beginning + "."):
            raise ImageError(f"{name}: {what}: {remedy}")
    modality = (text(attributes, "Modality").upper() or "missing")[:16]
    if modality not in ("MR", "missing"):
        what = MODALITIES.get(modality, "")
        named = f" ({what})" if what else ""
        raise ImageError(f"{name}: modality is {modality}, not MR{named}: give a magnetic resonance image")
    pixels = grouping or "PixelData" in attributes
    if not (pixels and integer(attributes, "Rows", 0) > 0 and integer(attributes, "Columns", 0) > 0):
        raise ImageError(f"{name}: not a DICOM image (no pixels in it): give the slice's own file")
    if modality == "missing":
        raise ImageError(f"{name}: modality is missing, not MR: only magnetic resonance images are read")
    colour = _colour(attributes)
    if (first(attributes, "SamplesPerPixel") or 1) != 1 or colour not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"{name}: colour DICOM ({colour[:16]}): export the original greyscale slice")
    if text(attributes, "BurnedInAnnotation").upper() == "YES":
        raise ImageError(
            f"{name}: BurnedInAnnotation is YES, text in the picture may name the patient: export it without annotation"
        )
    if "MOSAIC" in _kind(attributes, 0):
        raise ImageError(f"{name}: a mosaic of many slices in one picture: convert it with dcm2niix, which parts them")
    if colour == "MONOCHROME2" and text(attributes, "PresentationLUTShape") == "INVERSE":
        raise ImageError(f"{name}: says that high levels are bright and that they are dark: export it again")
    return attributes


def _colour(attributes: Attributes) -> str:
    return text(attributes, "PhotometricInterpretation").upper() or "MONOCHROME2"


def _kind(attributes: Attributes, index: int) -> tuple[str, ...]:
    """The words of ImageType, or of a frame's own FrameType."""
    group = _group(attributes, index, "MRImageFrameTypeSequence", "FrameType")
    words = texts(group, "FrameType") or texts(attributes, "ImageType")
    return tuple(word.upper() for word in words)


def _group(attributes: Attributes, index: int, sequence: str, keyword: str) -> Attributes:
    """The attributes that holds `keyword` for a frame: its own group, the one that frames share, or the top."""
    shared = attributes.get(GROUPS[0], [])
    groups = attributes.get(GROUPS[1], [])
    for group in (*groups[index : index + 1], *shared[:1]):
        for item in group.get(sequence, [])[:1]:
            if keyword in item:
                return item
    return attributes


# Geometry -------------------------------------------------------------------------------------------------------------


def _geometry(attributes: Attributes, index: int) -> tuple[Geometry, tuple[str, ...]]:
    """Where a frame lies, and notes on what its spacing had to be assumed."""
    row_mm, column_mm, notes = _spacing(attributes, index)
    place = _group(attributes, index, "PlaneOrientationSequence", "ImageOrientationPatient")
    cosines = numbers(place, "ImageOrientationPatient")
    position = _group(attributes, index, "PlanePositionSequence", "ImagePositionPatient")
    origin = numbers(position, "ImagePositionPatient")
    if len(cosines) == 6 and np.isfinite(cosines).all():
        right, down = np.array(cosines[:3]) * LPS_TO_RAS, np.array(cosines[3:]) * LPS_TO_RAS
    else:
        letters = [LETTERS.get(word[:1].upper()) for word in texts(attributes, "PatientOrientation")]
        if len(letters) != 2 or None in letters:
            return Geometry(row_mm=row_mm, column_mm=column_mm), notes
        right, down = (np.array(letter, float) for letter in letters)
    one_for_all = position is attributes and frame_count(attributes) > 1  # it tells nothing of the single frame
    known = len(origin) == 3 and np.isfinite(origin).all() and not one_for_all
    return Geometry(down, right, np.array(origin) * LPS_TO_RAS if known else None, row_mm, column_mm), notes


def _spacing(attributes: Attributes, index: int) -> tuple[float | None, float | None, tuple[str, ...]]:
    """Spacing of rows and of columns in mm (None where unknown), and a note where it had to be assumed."""
    measures = _group(attributes, index, "PixelMeasuresSequence", "PixelSpacing")
    for part, keyword in (
        (measures, "PixelSpacing"),
        (attributes, "ImagerPixelSpacing"),
        (attributes, "NominalScannedPixelSpacing"),
    ):
        sizes = numbers(part, keyword)[:2]
        if sizes and all(0 < size < math.inf for size in sizes):
            return sizes[0], sizes[-1], ()
    ratio = numbers(attributes, "PixelAspectRatio")
    if len(ratio) == 2 and all(0 < number < math.inf for number in ratio):
        return ratio[0] / ratio[1], 1.0, ("pixel spacing is not in the file: only its aspect ratio is known",)
    return None, None, ("pixel spacing is not in the file: pixels are taken to be square",)


# Grey levels ----------------------------------------------------------------------------------------------------------


def _frames(attributes: Attributes, name: str) -> Callable[[int, str], Frame]:
    """The function that decodes a frame of a checked file."""
    decode = dicom_pixels.decoder(attributes, name)

    def frame(index: int, name: str) -> Frame:
        with words_only(name, "DICOM"):
            return _frame(attributes, index, decode(index, name), name)

    return frame


def _frame(attributes: Attributes, index: int, stored: np.ndarray, name: str) -> Frame:
    """A frame from its stored levels: rescaled, then through its table or first window where it has a usable one."""
    geometry, notes = _geometry(attributes, index)
    colour = _colour(attributes)
    inverted = colour == "MONOCHROME1"
    about: dict[str, Any] = {"mode": f"DICOM {colour}", "name": name, "geometry": geometry, "inverted": inverted}
    outside = _padding(stored, attributes)
    values = stored
    if outside is not None:
        values = np.where(outside, (np.max if inverted else np.min)(stored[~outside]), stored)
    rescaled = _rescaling(attributes, index, name)
    group = _group(attributes, index, "FrameVOILUTSequence", "WindowCenter")
    centre, width = first(group, "WindowCenter"), first(group, "WindowWidth")
    why_flat = ""
    if group.get("VOILUTSequence"):
        table, start = _table(group["VOILUTSequence"][0], attributes)
        shades = stretch(table, table.min(), table.max())
        grey = in_strips(lambda part: _look_up(rescaled(part), shades, start), values, np.uint8)
    elif centre is not None and width is not None and math.isfinite(centre) and 1 < width < math.inf:
        function = text(group, "VOILUTFunction") or "LINEAR"
        grey = in_strips(lambda part: _window(rescaled(part), centre, width, function), values, np.uint8)
        if values.min() < values.max():
            why_flat = f"the window of the file (centre {centre:g}, width {width:g}) lies off its grey levels"
    else:
        return floating(in_strips(rescaled, values, np.float32), **about, notes=notes)
    if outside is not None:
        grey[outside] = 255 if inverted else 0
    return Frame(grey, **about, notes=notes, why_flat=why_flat)


def _rescaling(attributes: Attributes, index: int, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function from stored levels to those that the scanner means."""
    if attributes.get("ModalityLUTSequence"):
        table, start = _table(attributes["ModalityLUTSequence"][0], attributes)
        return lambda part: _look_up(part, table, start)
    transform = _group(attributes, index, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = first(transform, "RescaleSlope"), first(transform, "RescaleIntercept")
    if slope == 0 or not all(math.isfinite(number) for number in (slope or 1.0, intercept or 0.0)):
        raise ImageError(f"{name}: rescale slope {slope:g}, which makes all levels equal or none: export it again")
    if slope is None and intercept is None:
        return lambda part: part
    return lambda part: part.astype(np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)


def _table(item: Attributes, attributes: Attributes) -> tuple[np.ndarray, int]:
    """A table of levels, float32, and the level that its first one stands for (DICOM PS3.3, C.11.1.1.1)."""
    count, start, bits = (int(number) for number in numbers(item, "LUTDescriptor"))
    count = count or 2**16
    element = item["LUTData"]
    table = binary(element, "u1" if bits <= 8 and len(element.value) < 2 * count else "u2")
    return table[:count].astype(np.float32), int(_signed(start, attributes))


def _look_up(levels: np.ndarray, table: np.ndarray, start: int) -> np.ndarray:
    """Levels through a table; those beyond its ends are taken for its ends."""
    return table[np.clip(np.rint(levels) - start, 0, len(table) - 1).astype(np.intp)]


def _window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Values through a DICOM window, uint8 (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return np.rint(255 * special.expit(4 * (values - centre) / width)).astype(np.uint8)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return stretch(values, centre - width / 2, centre + width / 2)


def _padding(stored: np.ndarray, attributes: Attributes) -> np.ndarray | None:
    """Where a frame lies outside the scanned field (PixelPaddingValue), bool (H, W); None where it does nowhere."""
    padding, limit = first(attributes, "PixelPaddingValue"), first(attributes, "PixelPaddingRangeLimit")
    if padding is None:
        return None
    low, high = sorted(_signed(number, attributes) for number in (padding, padding if limit is None else limit))
    outside = (stored >= low) & (stored <= high)
    return outside if outside.any() and not outside.all() else None


def _signed(number: float, attributes: Attributes) -> float:
    """A level of 16 bits with the sign of the pixels, as files may write it without."""
    signed = integer(attributes, "PixelRepresentation", 0) == 1 and 2**15 <= number < 2**16
    return number - 2**16 if signed else number
