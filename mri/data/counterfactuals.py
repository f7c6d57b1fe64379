"""Change where a tumour is: take it out of a head, or put it into another one.

A network that knows tumours calls a head without its tumour tumour-free, and finds a tumour in any head. Training uses
such images so that the rest of the head can't tell the class (as CarveMix, Zhang et al. 2021, arXiv 2108.06883, and
TumorCP, Yang et al. 2021, arXiv 2107.09843, do for segmentation), and explanations are checked with them.

Images are float32 (H, W) in [0, 1], masks bool (H, W) of the same size; neither is changed in place. Lengths are shares
of the longer side.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mri.data.images import CONTENT_LEVEL, CONTENT_PART

COARSE = 40  # pixels of the longer side at which the midline is searched
ANGLES = np.radians(np.arange(-15, 16, 3))  # of the midline from the vertical
OFFSETS = np.arange(-6, 7)  # of the midline from the image's centre, in coarse pixels
SYMMETRY = 0.74  # correlation with the mirror image from which a head counts as symmetric; sagittal slices stay below
HOLD = 0.0125  # around the mask that is replaced like the mask itself: outlines are inexact
FEATHER = 0.05  # width of the transition beyond that
RING = 0.03  # width of the ring around the transition, whose brightness is matched
GAIN = (0.5, 2.0)  # of the match, at most
CLEAR = 0.05  # distance that a pasted tumour keeps from the head's edge: the skull
TRIES = 30  # places drawn until a tumour fits


class Midline(NamedTuple):
    """The head's axis of symmetry, for images of one shape.

    angle: from the vertical, in radians. offset: of the axis from the image's centre along its normal, in pixels.
    symmetry: correlation of the head with its mirror image, -1 to 1.
    """

    angle: float
    offset: float
    symmetry: float


def head(image: np.ndarray) -> np.ndarray:
    """Return bool (H, W): the head in an image of any scale from 0: large bright parts, holes filled."""
    labels, count = ndimage.label(image > CONTENT_LEVEL * np.percentile(image, 99))
    if count == 0:
        return np.zeros(image.shape, bool)
    areas = np.bincount(labels.ravel())[1:]
    parts = np.isin(labels, 1 + np.flatnonzero(areas >= CONTENT_PART * areas.max()))
    return ndimage.binary_fill_holes(parts)


def midline(image: np.ndarray, mask: np.ndarray) -> Midline:
    """Find the axis about which the head is most symmetric, its tumour left out of account."""
    scale = max(image.shape) / COARSE
    small, tumour = _shrink(np.where(mask, 0, image)), _shrink(mask.astype(np.float32))
    values = np.where(tumour < 1, small / np.maximum(1 - tumour, 1e-6), 0).ravel()
    known = (tumour < 0.5).ravel()
    mirrored = _mirrored_pixels(small.shape)
    counted = known & known[mirrored]
    correlation = _correlations(values, values[mirrored], counted).reshape(len(ANGLES), len(OFFSETS))
    i, j = np.unravel_index(correlation.argmax(), correlation.shape)
    angle = ANGLES[i] + (ANGLES[1] - ANGLES[0]) * _vertex(correlation[:, j], int(i))
    offset = (OFFSETS[j] + _vertex(correlation[i], int(j))) * scale
    return Midline(float(angle), float(offset), float(correlation[i, j]))


def can_mirror(mask: np.ndarray, image: np.ndarray) -> bool:
    """Check whether `remove_lesion` can replace the tumour by the other side.

    The head must be symmetric, and the tumour with its surroundings must lie on one side of the midline; the mirrored
    place must lie in the picture.
    """
    return bool(mask.any()) and _other_side(image, mask) is not None


def remove_lesion(image: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Replace the tumour by the mirrored healthy side, feathered and matched in brightness to its surroundings.

    Returns a new image, float32 (H, W); None where `can_mirror` is false or the mask is empty.
    """
    other = _other_side(image, mask) if mask.any() else None
    if other is None:
        return None
    window, opacity, ring = _transition(mask)
    removed = image.astype(np.float32, copy=True)
    removed[window] = _blend(image[window], other, opacity, ring)
    return removed


def paste_lesion(
    image: np.ndarray, lesion_image: np.ndarray, lesion_mask: np.ndarray, shift: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Paste the tumour of another image, moved by `shift` (rows, columns): a new image and the tumour's mask there.

    It is feathered and, by the ring around it, matched in brightness. Both images have the same shape. The moved mask
    may not leave the image (ValueError); `choose_shift` finds places inside the head.
    """
    rows, columns = (np.flatnonzero(lesion_mask.any(axis=axis)) for axis in (1, 0))
    for span, step, side in zip((rows, columns), shift, image.shape, strict=True):
        if not len(span) or span[0] + step < 0 or span[-1] + step >= side:
            raise ValueError(f"a mask that is moved by {shift} must not be empty nor leave the image {image.shape}")
    window, opacity, ring = _transition(lesion_mask)
    source, place = _overlap(window, shift, image.shape)
    inside = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(source, window, strict=True))
    opacity, ring = opacity[inside], ring[inside]
    pasted, mask = image.astype(np.float32, copy=True), np.zeros(image.shape, bool)
    pasted[place] = _blend(image[place], lesion_image[source], opacity, ring)
    mask[place] = lesion_mask[source]
    return pasted, mask


def choose_shift(
    image: np.ndarray, lesion_mask: np.ndarray, rng: np.random.Generator, distance: float = 0.0
) -> tuple[int, int] | None:
    """Draw a shift that brings the mask to a random place in the head of `image`; None where none of some tries fits.

    distance: how far the tumour moves at least.
    """
    side = max(image.shape)
    depth = 2 * ndimage.distance_transform_edt(np.pad(head(image[::2, ::2]), 1))[1:-1, 1:-1]
    clear = np.argwhere(depth > CLEAR * side) * 2
    points = np.argwhere(lesion_mask[::2, ::2]) * 2
    if not len(clear) or not len(points):
        return None
    centre = np.rint(points.mean(axis=0)).astype(int)
    for place in clear[rng.integers(len(clear), size=TRIES)]:
        step = place - centre
        if np.hypot(*step) >= distance * side and _fits(depth, points + step, CLEAR * side):
            return int(step[0]), int(step[1])
    return None


def _fits(depth: np.ndarray, points: np.ndarray, least: float) -> bool:
    rows, columns = points.T // 2
    inside = (rows >= 0) & (columns >= 0) & (rows < depth.shape[0]) & (columns < depth.shape[1])
    return bool(inside.all() and (depth[rows, columns] > least).all())


def _shrink(image: np.ndarray) -> np.ndarray:
    """Return the image with a longer side of about `COARSE` pixels: means of blocks, without a rest at the border."""
    block = max(1, round(max(image.shape) / COARSE))
    height, width = (side // block * block for side in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    cells = image[top : top + height, left : left + width].reshape(height // block, block, width // block, block)
    return cells.mean(axis=(1, 3))


@lru_cache(maxsize=8)
def _mirrored_pixels(shape: tuple[int, int]) -> np.ndarray:
    """Return int (angles x offsets, pixels): the pixel that each one is mirrored to, itself where that is outside."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    own = np.arange(height * width)
    rows = []
    for angle in ANGLES.tolist():
        for offset in OFFSETS.tolist():
            row, column = (np.rint(axis).astype(int).ravel() for axis in _reflect(y, x, shape, angle, offset))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            rows.append(np.where(inside, row * width + column, own))
    return np.stack(rows)


def _reflect(
    y: np.ndarray, x: np.ndarray, shape: tuple[int, int], angle: float, offset: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror rows and columns about the line at `offset` from the image's centre, `angle` from the vertical."""
    normal = np.sin(angle), np.cos(angle)
    distance = (y - (shape[0] - 1) / 2) * normal[0] + (x - (shape[1] - 1) / 2) * normal[1] - offset
    return y - 2 * distance * normal[0], x - 2 * distance * normal[1]


def _correlations(values: np.ndarray, mirrored: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return (K,): the correlation of values (P,) with each of K mirrored versions (K, P) where counted (K, P)."""
    n = np.maximum(counted.sum(axis=1), 1)
    a, b = values * counted, mirrored * counted
    mean_a, mean_b = a.sum(axis=1) / n, b.sum(axis=1) / n
    covariance = np.einsum("kp,kp->k", a, b) / n - mean_a * mean_b
    variances = [np.einsum("kp,kp->k", c, c) / n - mean**2 for c, mean in ((a, mean_a), (b, mean_b))]
    scale = np.sqrt(np.maximum(variances[0] * variances[1], 0))
    return np.divide(covariance, scale, where=scale > 1e-9, out=np.full(len(n), -1.0))


def _vertex(values: np.ndarray, i: int) -> float:
    """Return where the parabola through three neighbours peaks, in steps from i, -0.5 to 0.5; 0 at an end."""
    if not 0 < i < len(values) - 1:
        return 0.0
    before, at, after = values[i - 1 : i + 2]
    bend = before - 2 * at + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _transition(mask: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """Return the window around a mask that is changed, the new content's opacity in it, and the ring around it.

    Opacity: float32, 1 in the mask and `HOLD` around it, falling smoothly to 0 over `FEATHER`. Ring: bool.
    """
    side = max(mask.shape)
    reach = (HOLD + FEATHER + RING) * side
    margin = int(np.ceil(reach))
    spans = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    window = tuple(
        slice(max(0, span[0] - margin), min(n, span[-1] + 1 + margin))
        for span, n in zip(spans, mask.shape, strict=True)
    )
    distance = ndimage.distance_transform_edt(~mask[window])
    fall = np.clip((distance - HOLD * side) / (FEATHER * side), 0, 1)
    opacity = (0.5 + 0.5 * np.cos(np.pi * fall)).astype(np.float32)
    return window, opacity, (opacity < 0.5) & (distance <= reach)


def _other_side(image: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Return what lies opposite the window of `_transition`, float32; None where it can't stand in for the tumour."""
    axis = midline(image, mask)
    if axis.symmetry < SYMMETRY:
        return None
    window, opacity, _ = _transition(mask)
    y, x = np.mgrid[window]
    rows, columns = _reflect(y, x, image.shape, axis.angle, axis.offset)
    shown = opacity > 0
    outside = (rows < 0) | (columns < 0) | (rows > image.shape[0] - 1) | (columns > image.shape[1] - 1)
    if (outside & shown).any():
        return None
    # A tumour whose mirror image touches it lies on the midline, and would be replaced by a part of itself.
    touched = ndimage.map_coordinates(mask.astype(np.float32), [rows[shown], columns[shown]], order=1)
    if touched.any():
        return None
    return ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest").astype(np.float32)


def _blend(old: np.ndarray, new: np.ndarray, opacity: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Return `new` over `old` (h, w), after scaling it so that it is as bright as `old` in the ring."""
    brightness = [float(part[ring].mean()) if ring.any() else 0.0 for part in (old, new)]
    gain = np.clip(brightness[0] / brightness[1], *GAIN) if min(brightness) > 0 else 1.0
    return np.clip(old + opacity * (new * gain - old), 0, 1)


def _overlap(
    window: tuple[slice, ...], shift: tuple[int, int], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of a window that stays in the image when it is moved: where it comes from and where it goes."""
    source = tuple(
        slice(max(part.start, -step), min(part.stop, side - step))
        for part, step, side in zip(window, shift, shape, strict=True)
    )
    return source, tuple(slice(part.start + step, part.stop + step) for part, step in zip(source, shift, strict=True))
