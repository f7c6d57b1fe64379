"""One slice out of a file of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mri.data.images import dicom, kinds, nifti, pictures
from mri.data.images.preparing import check_mask
from mri.data.images.slices import MAX_BYTES, Frame, ImageError, Slice, check_head, check_shape, words_only


def read(source: Path | str | bytes, name: str = "") -> np.ndarray:
    """Return the greyscale pixels of an image file, uint8 (H, W), 0 black to 255 white.

    source: a path, or the bytes of a file; `name` is what messages call it (the path, or "image", by default).
    Raises ImageError when the file is missing, damaged, of another kind, or refused (see the package's text).
    """
    return read_slice(source, name).pixels


def read_slice(source: Path | str | bytes, name: str = "") -> Slice:
    """Return the pixels of an image file with what it tells of them: plane, position, spacing. Errors as `read`."""
    data, name = load(source, name)
    frame = decode(data, name)
    shown = show(frame)
    check_head(shown, frame.why_flat)
    return shown


def describe(source: Path | str | bytes, name: str = "") -> dict[str, Any]:
    """Return what can be told of an image without looking at its content: {width, height (pixels), mode, bytes, mean}.

    mode: how the file stores grey levels, as in `Slice`. bytes: size of the file. mean: mean grey level, 0 to 255.
    Raises ImageError as `read` does.
    """
    data, name = load(source, name)
    shown = show(decode(data, name))
    height, width = shown.pixels.shape
    return {
        "width": width,
        "height": height,
        "mode": shown.mode,
        "bytes": len(data),
        "mean": float(shown.pixels.mean()),
    }


def read_mask(source: Path | str | bytes, shape: tuple[int, int] | None = None, name: str = "") -> np.ndarray:
    """Return a tumour mask, bool (H, W), true where the file is not black; it may be black all over.

    Raises ImageError as `read` does, and unless its size is `shape`.
    """
    data, name = load(source, name)
    mask = show(decode(data, name)).pixels > 0
    if shape is not None:
        check_mask(mask.shape, shape, name)
    return mask


def load(source: Path | str | bytes, name: str = "", most: int = 0) -> tuple[bytes, str]:
    """Return the bytes of a file and what to call it. Raises ImageError when it is missing, empty or above `most`.

    most: bytes, by default as many as a slice may have.
    """
    most = most or MAX_BYTES
    if isinstance(source, bytes):
        data, name = source, printable(name or "image")
    else:
        name = printable(name or str(source))
        try:
            with Path(source).open("rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise ImageError(f"{name}: cannot be opened ({error.strerror}): check path and permissions") from None
        except ValueError:  # a zero byte in the path
            raise ImageError(f"{name}: cannot be opened (no such path): check it") from None
    if not data:
        raise ImageError(f"{name}: the file is empty (zero bytes): replace or remove it")
    if len(data) > most:
        raise ImageError(f"{name}: more than {most // 10**6} MB, too large for a slice: give the slice alone")
    return data, name


def decode(data: bytes, name: str) -> Frame:
    """Return the only frame of a file, as it is stored. Raises ImageError as `read` does."""
    what = kinds.kind(data)
    if what == kinds.UNKNOWN and name.lower().endswith((".dcm", ".dicom", ".ima")):
        what = kinds.DICOM  # some begin with neither preamble nor an element that tells
    readers = {
        kinds.DICOM: dicom.read_slice,
        kinds.NIFTI: nifti.read_slice,
        **dict.fromkeys(kinds.PICTURES, pictures.read),
    }
    if what not in readers:
        raise kinds.refuse(name, data, what)
    with words_only(name, what):
        return readers[what](data, name)


def show(frame: Frame) -> Slice:
    """Return a frame as displayed. Raises ImageError for one too small, or too long and thin, for a slice."""
    shown = frame.show()
    check_shape(shown.pixels, shown.name)
    return shown


def printable(name: str) -> str:
    """Return a name as one line of text: bytes that aren't UTF-8 and control characters are written as escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
