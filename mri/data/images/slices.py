"""A slice as it is shown: which way up, which plane, where in the head, and what a file may cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from mri.base.errors import UserError
from mri.data.images.levels import stretch, value_range

# Sixteen times a slice of 1024 x 1024, and more than the 14.7 million of a 5K screen. A file that claims more is
# refused before its pixels are decoded, as kilobytes can unpack to any number of them.
MAX_PIXELS = 4096 * 4096
MAX_BYTES = 100_000_000
# Of the grey levels of one slice: all of these pixels in float32, half as many in float64.
MAX_DECODED_BYTES = 4 * MAX_PIXELS
MIN_SIDE = 16
# A head is nearly as long as wide, and `prepare` makes a square of the longer side, which must not be a huge one.
MAX_ASPECT = 4
# Of a series: slices, and the bytes of its grey levels or unpacked files. 200 slices of 512 x 512 in float64 fit.
MAX_SLICES = 1000
MAX_SERIES_BYTES = 500_000_000
# A larger share of pixels of one grey level leaves no room for a head.
BLANK = 0.999
# A larger share of grey levels that are no numbers leaves too little: a few, or a rim after resampling, are filled.
MAX_NOT_NUMBERS = 0.25
# Directions closer than this to an axis of the body, in degrees, are not called oblique.
STRAIGHT = 1.0

PLANES = ("sagittal", "coronal", "axial")  # by the axis of the body (x, y, z) that runs across them
# Axes of the body (x, y, z) along the rows and the columns of the screen; the screen's run against them.
DISPLAY = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}


class ImageError(UserError):
    """A file that is not a usable image; the message names it, the reason and the remedy."""


class DamagedError(ImageError):
    """A file that breaks off or contradicts itself."""


@dataclass(frozen=True)
class Slice:
    """A slice in radiological display: patient's right on the left, front or top at the top, sagittal faces left.

    pixels: uint8 (H, W), square pixels. mode: how the file stores grey levels, for example "L", "I;16",
    "DICOM MONOCHROME2", "NIfTI float32". name: of the file and, where it holds several, the slice. plane: "axial",
    "coronal", "sagittal", or "" where the file doesn't tell. tilt: degrees between the slice and that plane. position:
    mm along the plane's normal, towards the head, the front or the patient's right. spacing: mm a pixel. Both are None
    where unknown. notes: sentences on what had to be assumed. index: of a NIfTI volume, which slice of it, from 0.
    """

    pixels: np.ndarray
    mode: str
    name: str = ""
    plane: str = ""
    tilt: float = 0.0
    position: float | None = None
    spacing: float | None = None
    notes: tuple[str, ...] = ()
    index: int = 0


@dataclass(frozen=True)
class LeftOut:
    """A file or slice that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Series:
    """Slices in anatomical order: from the feet to the head, from the back to the front, from left to right.

    plane: as in `Slice`. spacing: mm between neighbouring slices (their median), None where unknown. left_out: what
    is not among the slices. notes: sentences on what had to be assumed of the whole.
    """

    name: str
    slices: list[Slice]
    left_out: list[LeftOut] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    @property
    def plane(self) -> str:
        return self.slices[0].plane

    @property
    def spacing(self) -> float | None:
        positions = [one.position for one in self.slices if one.position is not None]
        return float(np.median(np.diff(positions))) if len(positions) == len(self.slices) > 1 else None


@dataclass(frozen=True)
class Geometry:
    """Where a stored frame lies in the body, in RAS (x to the patient's right, y to the front, z to the head), mm.

    down, right: directions in which row and column numbers grow, any length. origin: of the first pixel.
    None where the file doesn't tell. row_mm, column_mm: spacing of rows and of columns.
    """

    down: np.ndarray | None = None
    right: np.ndarray | None = None
    origin: np.ndarray | None = None
    row_mm: float | None = None
    column_mm: float | None = None

    def turn(self) -> Turn | None:
        """Return how the frame is turned to the display, None when its directions are unknown or parallel."""
        if self.down is None or self.right is None:
            return None
        down, right = (vector / (np.linalg.norm(vector) or 1) for vector in (self.down, self.right))
        normal = np.cross(down, right)
        length = np.linalg.norm(normal)
        if not length > 0.1:  # also where a direction is not a number
            return None
        normal /= length
        across = 2 - int(np.argmax(np.abs(normal)[::-1]))  # of equals the last: axial before the others
        plane = PLANES[across]
        to_right, to_bottom = DISPLAY[plane]
        crossed = abs(right[to_bottom]) + abs(down[to_right]) > abs(right[to_right]) + abs(down[to_bottom])
        if crossed:
            down, right = right, down
        normal *= np.sign(normal[across])
        position = None if self.origin is None else float(self.origin @ normal)
        tilt = math.degrees(math.acos(min(1.0, abs(normal[across]))))
        return Turn(plane, tilt, position, crossed, bool(down[to_bottom] > 0), bool(right[to_right] > 0))


@dataclass(frozen=True)
class Turn:
    """How a frame becomes the display of its plane: transposed, then rows and columns reversed."""

    plane: str
    tilt: float
    position: float | None
    crossed: bool
    upside_down: bool
    mirrored: bool

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = values.T if self.crossed else values
        return values[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


@dataclass(frozen=True)
class Frame:
    """A slice as it is stored.

    levels: (H, W), uint8 grey levels that are ready, or float levels still to be scaled between percentiles.
    inverted: whether high levels are dark. why_flat: what to say when the picture turns out to be of one grey level.
    """

    levels: np.ndarray
    mode: str
    name: str
    geometry: Geometry | None = None
    inverted: bool = False
    notes: tuple[str, ...] = ()
    why_flat: str = ""

    @property
    def ready(self) -> bool:
        return self.levels.dtype == np.uint8

    def show(self, limits: tuple[float, float] | None = None) -> Slice:
        """Return the slice as displayed. limits: levels that become black and white, by default its percentiles."""
        pixels = self.levels if self.ready else stretch(self.levels, *(limits or value_range(self.levels)))
        if self.inverted:
            pixels = 255 - pixels
        if self.geometry is None:
            return Slice(pixels, self.mode, self.name, notes=self.notes)
        return self._in_place(pixels, self.geometry)

    def _in_place(self, pixels: np.ndarray, geometry: Geometry) -> Slice:
        row_mm, column_mm = geometry.row_mm, geometry.column_mm
        turn = geometry.turn()
        if turn is None:
            note = "orientation is not in the file: shown as stored, left and right may be swapped"
            shown = Slice(pixels, self.mode, self.name, notes=(*self.notes, note))
        else:
            if turn.crossed:
                row_mm, column_mm = column_mm, row_mm
            oblique = f"oblique by {turn.tilt:.0f} degrees: shown as {turn.plane}"
            notes = (*self.notes, oblique) if turn.tilt > STRAIGHT else self.notes
            shown = Slice(turn(pixels), self.mode, self.name, turn.plane, turn.tilt, turn.position, notes=notes)
        spacing = min(row_mm, column_mm) if row_mm and column_mm else None
        pixels = square_pixels(np.ascontiguousarray(shown.pixels), row_mm or 1, column_mm or 1, self.name)
        return replace(shown, pixels=pixels, spacing=spacing)


def floating(values: np.ndarray, mode: str, name: str, geometry: Geometry | None = None, **others: Any) -> Frame:
    """Return the frame of grey levels without a window, (H, W): NaN and infinities become the darkest level.

    others: of the frame. Raises ImageError when more than `MAX_NOT_NUMBERS` of the levels are no numbers.
    """
    levels = values.astype(np.float32, copy=False)
    finite = np.isfinite(levels)
    count = int(levels.size - np.count_nonzero(finite))
    if count > MAX_NOT_NUMBERS * levels.size:
        share = f"{count / levels.size:.0%}"
        raise ImageError(f"{name}: {share} of its grey levels are not numbers (NaN or infinite): write the file again")
    if count:
        levels = np.where(finite, levels, levels[finite].min())
        notes = (
            *others.get("notes", ()),
            f"{count} grey levels that are not numbers (NaN or infinite) are shown black",
        )
        others["notes"] = notes
    return Frame(levels, mode, name, geometry, **others)


def check_shape(pixels: np.ndarray, name: str) -> None:
    """Raise ImageError for a picture that is too small, or too long and thin, for a slice."""
    size = f"{pixels.shape[1]}x{pixels.shape[0]}"
    if min(pixels.shape) < MIN_SIDE:
        raise ImageError(f"{name}: {size} pixels are too few for a slice: at least {MIN_SIDE} a side are needed")
    if max(pixels.shape) > MAX_ASPECT * min(pixels.shape):
        raise ImageError(f"{name}: {size} is too long and thin for a slice: at most {MAX_ASPECT} to 1")


def check_head(shown: Slice, why_flat: str = "") -> None:
    """Raise ImageError for a picture that can't hold a head, as (nearly) all of it has one grey level."""
    if _most_frequent(shown.pixels[::4, ::4]) <= 0.9:  # nearly every picture: counting all of it takes a millisecond
        return
    strips = np.array_split(shown.pixels, math.ceil(shown.pixels.size / 2**20))  # counting takes 8 bytes a pixel
    counts = np.sum([np.bincount(strip.ravel(), minlength=256) for strip in strips], axis=0)
    if counts.max() > BLANK * shown.pixels.size:
        why = why_flat or "blank, all pixels have the same grey level"
        raise ImageError(f"{shown.name}: no head in the picture ({why}): give a slice that shows one")


@contextmanager
def words_only(name: str, kind: str) -> Iterator[None]:
    """Raise the error for a damaged file in place of whatever a decoder raises when it meets one."""
    try:
        yield
    except ImageError:
        raise
    except Exception:
        raise damaged(name, kind) from None


def _most_frequent(pixels: np.ndarray) -> float:
    """The share of pixels that have the most frequent grey level."""
    return float(np.bincount(pixels.ravel(), minlength=256).max() / pixels.size)


def check_count(width: int, height: int, name: str) -> None:
    """Raise ImageError for more pixels than a slice may have."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width}x{height} is too many pixels: at most {MAX_PIXELS // 10**6} million")


def check_decoded(pixels: int, bytes_each: float, name: str) -> None:
    """Raise ImageError for more bytes of grey levels than a slice may have."""
    if pixels * bytes_each > MAX_DECODED_BYTES:
        raise ImageError(
            f"{name}: {pixels * bytes_each / 1e6:.0f} MB of grey levels are too much for a slice: "
            f"at most {MAX_DECODED_BYTES // 10**6} MB"
        )


def damaged(name: str, kind: str) -> DamagedError:
    """Return the error for a damaged file; libraries' own words stay out of it."""
    return DamagedError(f"{name}: the {kind} file is damaged or truncated: replace or remove it")


def square_pixels(pixels: np.ndarray, row_mm: float, column_mm: float, name: str) -> np.ndarray:
    """Return pixels enlarged along the coarser axis to square ones. row_mm, column_mm: spacing of rows, of columns."""
    if math.isclose(row_mm, column_mm, rel_tol=0.01):
        return pixels
    height, width = pixels.shape
    unit = min(row_mm, column_mm)
    if max(row_mm, column_mm) > MAX_PIXELS * unit:  # before it is multiplied to more than a number holds
        raise ImageError(f"{name}: its pixels are {row_mm:g} by {column_mm:g} mm: correct the spacing")
    height, width = round(height * row_mm / unit), round(width * column_mm / unit)
    check_count(width, height, name)
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
