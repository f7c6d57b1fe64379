"""Stored levels of DICOM frames, in every transfer syntax."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mri.data.images.dicom_attributes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    SYNTAX,
    Attributes,
    first,
    integer,
    text,
)
from mri.data.images.slices import MAX_SERIES_BYTES, MAX_SLICES, ImageError, check_count, check_decoded, damaged

NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
RLE = "1.2.840.10008.1.2.5"
JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))


@dataclass(frozen=True)
class Form:
    """How the levels of a frame are stored. allocated, used: bits a pixel; high: the number of the highest used one."""

    shape: tuple[int, int]
    allocated: int
    used: int
    high: int
    signed: bool

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1]


def frame_count(attributes: Attributes) -> int:
    """Return how many frames a file says it has; 1 when it says nothing or nonsense."""
    return max(1, integer(attributes, "NumberOfFrames", 1))


def decoder(attributes: Attributes, name: str) -> Callable[[int, str], np.ndarray]:
    """Return the function that decodes a frame's stored levels, integers (H, W), given its index and what it is called.

    Raises ImageError for what decodes to more than a slice or a series may have, and for bits that no integer has; the
    function does for what can't be decoded, and whatever a decoder raises for a damaged frame.
    """
    form = _form(attributes, name)
    syntax = text(attributes, SYNTAX)
    if syntax in NATIVE:
        return lambda index, name: _significant(_native(attributes, form, index, name), form)
    encoded = _encoded(attributes, name)
    # Decoders put the levels into the low bits, wherever they were stored.
    low = Form(form.shape, form.allocated, form.used, form.used - 1, form.signed)
    return lambda index, name: _significant(_decoded(syntax, form, encoded[index], name), low)


def _form(attributes: Attributes, name: str) -> Form:
    height, width = integer(attributes, "Rows", 0), integer(attributes, "Columns", 0)
    allocated = first(attributes, "BitsAllocated") or 0
    check_count(width, height, name)
    if allocated not in (8, 16, 32):
        raise ImageError(f"{name}: {allocated:g} bits a pixel, not a greyscale image (8, 16 or 32): export it again")
    check_decoded(width * height, allocated / 8, name)
    if width * height * allocated / 8 * min(frame_count(attributes), MAX_SLICES + 1) > MAX_SERIES_BYTES:
        raise ImageError(f"{name}: too many frames: at most {MAX_SERIES_BYTES // 10**6} MB of grey levels")
    used = first(attributes, "BitsStored") or allocated
    if not 1 <= used <= allocated:
        raise ImageError(f"{name}: {used:g} of {allocated:g} bits are said to be used: export it again")
    high = integer(attributes, "HighBit", int(used) - 1)
    high = high if used - 1 <= high < allocated else int(used) - 1
    signed = integer(attributes, "PixelRepresentation", 0) == 1
    return Form((height, width), int(allocated), int(used), high, signed)


def _native(attributes: Attributes, form: Form, index: int, name: str) -> np.ndarray:
    """Stored levels of an uncompressed frame, unsigned (H, W)."""
    element, size = attributes["PixelData"], form.allocated // 8
    data, big = element.value or b"", not element.is_little_endian
    if big and size == 1 and element.VR == "OW":  # bytes lie in words
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    start = form.pixels * size * index
    if len(data) < start + form.pixels * size:
        raise damaged(name, "DICOM")
    return np.frombuffer(data, f"{'>' if big else '<'}u{size}", form.pixels, start).reshape(form.shape)


def _encoded(attributes: Attributes, name: str) -> list[bytes]:
    """The compressed frames of a file."""
    from pydicom import encaps

    data, count = attributes["PixelData"].value, frame_count(attributes)
    try:
        if count == 1:  # whatever there is more
            return [encaps.get_frame(data, 0, number_of_frames=1)]
        return list(encaps.generate_frames(data, number_of_frames=count))
    except Exception:
        raise damaged(name, "DICOM") from None


def _decoded(syntax: str, form: Form, frame: bytes, name: str) -> np.ndarray:
    """Stored levels of a compressed frame, (H, W)."""
    if syntax == RLE:
        return _run_lengths(form, frame)
    if syntax not in (*JPEG, *JPEG_LS, *JPEG_2000):
        raise ImageError(f"{name}: pixels compressed as {_named(syntax)} cannot be decoded: save it uncompressed")
    precision, *size = _claimed(frame)
    if tuple(size) != form.shape:
        claim = f"the header says {form.shape[1]}x{form.shape[0]} and the compressed picture is {size[1]}x{size[0]}"
        raise ImageError(f"{name}: {claim}: export it again")
    if syntax in JPEG[:2] and precision == 8:
        with Image.open(io.BytesIO(frame), formats=("JPEG",)) as picture:
            levels = np.asarray(picture)
    else:
        levels = _codec(syntax, name)(frame)
    if levels.shape != form.shape or levels.dtype.kind not in "iu":
        raise damaged(name, "DICOM")
    return levels


def _named(syntax: str) -> str:
    from pydicom.uid import UID

    uid = UID(syntax)
    known = uid.is_transfer_syntax and not uid.is_private
    return repr(str(uid.name) if known else "".join(letter for letter in syntax[:64] if letter in "0123456789."))


def _codec(syntax: str, name: str) -> Any:
    """The function that decodes frames of a transfer syntax."""
    try:
        import imagecodecs
    except ImportError:
        raise ImageError(
            f"{name}: pixels compressed as {_named(syntax)} need the package imagecodecs: "
            "`pip install imagecodecs`, or save it uncompressed"
        ) from None
    if syntax in JPEG_LS:
        return imagecodecs.jpegls_decode
    return imagecodecs.jpeg2k_decode if syntax in JPEG_2000 else imagecodecs.jpeg8_decode


def _run_lengths(form: Form, frame: bytes) -> np.ndarray:
    """Levels of a run-length encoded frame; every segment unpacks to no more than the pixels there are."""
    size = form.allocated // 8
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != size:
        raise ValueError("segments")
    offsets = [*offsets[:count], len(frame)]
    levels = np.empty((form.pixels, size), np.uint8)
    for plane, start, stop in zip(range(size), offsets, offsets[1:], strict=False):  # the high byte first
        _unpack_bits(frame[start:stop], levels[:, size - 1 - plane])
    return levels.view(f"<u{size}").reshape(form.shape)


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


def _significant(stored: np.ndarray, form: Form) -> np.ndarray:
    """Levels of just the bits that are in use, signed where the file says so."""
    size, order = stored.dtype.itemsize, stored.dtype.byteorder
    shift = form.high + 1 - form.used
    if form.used >= 8 * size and not shift:
        return stored.view(f"{order}{'i' if form.signed else 'u'}{size}")
    if stored.dtype.kind == "i" and form.signed:  # JPEG 2000 keeps the sign
        return stored
    levels = (stored.view(f"{order}u{size}") >> shift) & np.dtype(f"u{size}").type(2**form.used - 1)
    if not form.signed:
        return levels
    sign = 2 ** (form.used - 1)
    return (levels.astype(np.int64 if form.used > 16 else np.int32) ^ sign) - sign
