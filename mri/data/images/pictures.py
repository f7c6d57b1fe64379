"""PNG, JPEG, TIFF, BMP, WebP and single-frame GIF, with all their bits."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from mri.data.images import kinds
from mri.data.images.levels import STRIP
from mri.data.images.slices import MAX_PIXELS, Frame, ImageError, check_count, damaged, floating

# Pillow names the raw forms of 16-bit colour by their byte order and keeps the high byte of each sample. Read in the
# other order it keeps the low byte: the two together are all 16 bits.
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}
# TIFF tags and their values that pixels depend on.
PHOTOMETRIC, PLANAR, BITS, SAMPLE_FORMAT = 262, 284, 258, 339
WHITE_IS_ZERO, SEPARATE_PLANES, SIGNED = 0, 2, 2


def read(data: bytes, name: str) -> Frame:
    """Return the frame that a picture's file holds. Raises ImageError for several pictures and for damaged files."""
    what = kinds.kind(data)
    if what == kinds.WEBP:
        width, height = _webp_size(data)
        check_count(width, height, name)  # Pillow makes room for all of it when it opens one
    try:
        picture: Any = Image.open(io.BytesIO(data), formats=(what.upper(),))
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: too many pixels: at most {MAX_PIXELS // 10**6} million") from None
    except Image.UnidentifiedImageError:
        raise _unreadable(data, name, what) from None
    check_count(picture.width, picture.height, name)
    if what in (kinds.TIFF, kinds.GIF, kinds.WEBP):
        _check_single(picture, name, what)
    mode = picture.mode
    deep = _deep(picture, data, name)
    if deep is not None:
        return floating(deep, f"{mode};16", name)
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if mode.startswith(("I", "F")):
        return _wide(picture, mode, name, what)
    grey = np.empty((picture.height, picture.width), np.uint8)
    for top in range(0, picture.height, STRIP):
        bottom = min(top + STRIP, picture.height)
        grey[top:bottom] = np.asarray(_luma(picture.crop((0, top, picture.width, bottom))))
    return Frame(grey, mode, name)


def _unreadable(data: bytes, name: str, what: str) -> ImageError:
    """The error for a header that Pillow doesn't take: JPEG and TIFF have forms that it doesn't know."""
    if what == kinds.TIFF:
        return ImageError(f"{name}: a TIFF of a rare form, or damaged: save it as 8- or 16-bit greyscale TIFF or PNG")
    if what == kinds.JPEG and data.find(b"\xff\xc3", 0, 4096) > 0:
        return ImageError(f"{name}: a lossless JPEG outside DICOM: save it as PNG")
    return damaged(name, what)


def _check_single(picture: Any, name: str, what: str) -> None:
    """Refuse a file of several pictures: which of them is meant is not for the reader to say."""
    try:
        picture.seek(1)
    except EOFError:
        picture.seek(0)
        return
    raise ImageError(f"{name}: a {what} with several pictures (pages or frames): save the slice as a file of its own")


def _wide(picture: Any, mode: str, name: str, what: str) -> Frame:
    """A greyscale picture of more than 8 bits."""
    levels = np.asarray(picture, np.float32)
    hidden = picture.info.get("transparency")
    if isinstance(hidden, int):
        levels = np.where(levels == hidden, np.float32(0), levels)
    tags = picture.tag_v2 if what == kinds.TIFF else {}
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    return floating(levels, mode, name, inverted=inverted)


def _deep(picture: Any, data: bytes, name: str) -> np.ndarray | None:
    """Grey levels, float32 (H, W), of a colour or transparent picture of 16 bits; None for any other picture.

    Luma and transparency as for 8 bits, in 16.
    """
    if picture.format == "TIFF":
        _check_tiff(picture, name)
    raw = {_raw_form(tile) for tile in picture.tile}
    if not any(";16" in form for form in raw) or picture.mode not in ("RGB", "RGBA", "LA"):
        return None
    if len(raw) != 1:
        raise ImageError(f"{name}: 16-bit colour in separate planes: save it as 16-bit greyscale PNG or TIFF")
    (form,) = raw
    if form == "LA;16B":  # of equal length and order, so that every byte is kept
        samples = _loaded(data, picture.format, "RGBA").astype(np.int32)
        return _over_black(samples[..., 0] * 256 + samples[..., 1], samples[..., 2] * 256 + samples[..., 3])
    low = form[:-1] + OTHER_ORDER[form[-1]]
    samples = _loaded(data, picture.format, form).astype(np.int32) * 256 + _loaded(data, picture.format, low)
    # In whole numbers, so that equal channels give just their level.
    grey = (299 * samples[..., 0] + 587 * samples[..., 1] + 114 * samples[..., 2] + 500) // 1000
    alpha: Any = samples[..., 3] if samples.shape[-1] == 4 else np.int32(65535)
    hidden = picture.info.get("transparency")
    if isinstance(hidden, tuple):
        alpha = np.where((samples[..., :3] == hidden).all(-1), 0, alpha)
    return _over_black(grey, alpha)


def _over_black(grey: np.ndarray, alpha: Any) -> np.ndarray:
    return (grey * (alpha / np.float32(65535))).astype(np.float32)


def _raw_form(tile: Any) -> str:
    """What Pillow calls the form of the bytes in a part of a picture."""
    arguments = tile.args
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _loaded(data: bytes, kind: str, form: str) -> np.ndarray:
    """A picture's samples, uint8 (H, W, C), its bytes taken to be of another form."""
    picture: Any = Image.open(io.BytesIO(data), formats=(kind,))
    tiles = [
        tile._replace(args=form if isinstance(tile.args, str) else (form, *tile.args[1:])) for tile in picture.tile
    ]
    picture.tile = tiles
    picture.load()
    if not isinstance(picture, PngImagePlugin.PngImageFile):
        return np.asarray(picture)
    ImageOps.exif_transpose(picture, in_place=True)
    return np.asarray(picture)


def _check_tiff(picture: Any, name: str) -> None:
    """Refuse forms of TIFF whose samples Pillow would take for others."""
    bits, form = picture.tag_v2.get(BITS, (1,)), picture.tag_v2.get(SAMPLE_FORMAT, (1,))
    if SIGNED in form and max(bits) <= 8:
        raise ImageError(f"{name}: a TIFF of signed 8-bit levels: save it with unsigned ones")
    if len(bits) > 1 and max(bits) > 16:
        raise ImageError(f"{name}: a colour TIFF of {max(bits)} bits: save it as 16-bit greyscale")


def _luma(picture: Image.Image) -> Image.Image:
    """Of a picture in any colour mode; transparent pixels are black."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    if picture.mode not in ("1", "L", "RGB"):
        picture = picture.convert("RGB")
    return picture.convert("L")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height as the header of a WebP file says."""
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    return int.from_bytes(data[26:28], "little") % 2**14, int.from_bytes(data[28:30], "little") % 2**14
