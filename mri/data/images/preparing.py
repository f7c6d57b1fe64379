"""What a network sees of a picture: the head, in a square, resized with antialiasing."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy import ndimage

from mri.data.images.slices import ImageError

# Share of the brightest tissue (99th percentile) below which a pixel is background. Noise and ghosts around the head
# reach 8 % in one real slice of ten and 10 % in one of twenty; with 12 % the box cuts not one pixel off the 3,064
# tumour masks of the figshare set.
CONTENT_LEVEL = 0.12
# Content is looked for on a copy reduced to this side: averaging there removes the noise that a threshold would keep.
CONTENT_GRID = 128
# A connected part counts when it has this share of the largest one's area: a hemisphere does, a letter does not.
CONTENT_PART = 0.1

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom exclusive


def check_mask(mask: tuple[int, ...], image: tuple[int, ...], name: str = "mask") -> None:
    """Raise ImageError unless a mask's shape (H, W) is its image's."""
    if mask != image:
        raise ImageError(
            f"{name}: the mask is {mask[1]}x{mask[0]} pixels and its image {image[1]}x{image[0]}: "
            "give the mask the image's size"
        )


def content_box(pixels: np.ndarray) -> Box:
    """Find the head: return the box round all large connected parts brighter than the background.

    pixels: uint8 (H, W). The whole frame when nothing stands out (a blank image, a white background).
    The box is exact to one cell of a grid of at most `CONTENT_GRID` cells a side, always outwards.
    """
    height, width = pixels.shape
    factor = math.ceil(max(height, width) / CONTENT_GRID)
    grid = np.asarray(Image.fromarray(pixels).reduce(factor))
    bright = _percentile(grid, 99)
    labels, count = ndimage.label(grid > CONTENT_LEVEL * bright)
    if bright == 0 or count == 0:
        return 0, 0, width, height
    areas = np.bincount(labels.ravel())
    areas[0] = 0  # what is no part
    head = (areas >= CONTENT_PART * areas.max())[labels]
    rows, columns = (np.flatnonzero(head.any(axis=axis)) * factor for axis in (1, 0))
    return int(columns[0]), int(rows[0]), min(int(columns[-1]) + factor, width), min(int(rows[-1]) + factor, height)


def _percentile(levels: np.ndarray, percent: float) -> float:
    """`np.percentile` of uint8 levels, by counting them: every served image waits for it."""
    below = np.bincount(levels.ravel(), minlength=256).cumsum()
    position = (levels.size - 1) * percent / 100
    low, high = (int(np.searchsorted(below, rank, "right")) for rank in (math.floor(position), math.ceil(position)))
    return low + (high - low) * (position % 1)


def prepare(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return what a network sees of an image: the head, in a square, uint8 (size, size).

    pixels: uint8 (H, W), as `read` returns them. The surroundings of an oblong head are 0. A blank image stays blank.
    """
    return np.array(_resize(_square(pixels, content_box(pixels)), size))


def prepare_mask(mask: np.ndarray, pixels: np.ndarray, size: int) -> np.ndarray:
    """Return the mask with the geometry that `prepare` gives its image `pixels`, bool (size, size).

    mask: (H, W), non-zero inside the tumour. A cell belongs to the tumour when half of it does; a tumour smaller than
    that keeps the cell it covers most, so no mask vanishes. Raises ImageError when mask and image differ in size.
    """
    check_mask(mask.shape, pixels.shape)
    square = _square(np.where(mask, np.uint8(255), np.uint8(0)), content_box(pixels))
    cover = np.asarray(_resize(square, size))
    return cover >= min(128, max(1, int(cover.max())))


def _square(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The part of `pixels` in `box`, centred on a black square of its longer side."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    square = np.zeros((side, side), dtype=np.uint8)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    square[y : y + bottom - top, x : x + right - left] = pixels[top:bottom, left:right]
    return square


def _resize(square: np.ndarray, size: int) -> Image.Image:
    # Pillow widens the bilinear kernel when it shrinks (antialiasing); unlike bicubic or Lanczos it never overshoots,
    # so no bright rim is drawn where there was none.
    return Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR)
