"""Compute maps that know nothing of the network: what an explanation must beat, and the best that a grid could reach.

The trivial maps take images (N, H, W) and return float32 (N, H, W) like any method of `mri.explanation.maps`, and get
the same scores. A centre prior looks excellent on AUROC, and an edge filter looks like a heat map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from mri.explanation.scores import entropy
from mri.inference.gradcam import Cells, evenly, upsample

GAUSSIAN_SIGMA = 40 / 224  # share of the side


def random(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return independent uniform noise."""
    return np.random.default_rng(seed).random(images.shape, dtype=np.float32)


def constant(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return 1 everywhere."""
    return np.ones(images.shape, np.float32)


def gaussian(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a Gaussian at the image's centre: knows only that lesions are seldom at the border."""
    bells = []
    for side in images.shape[1:]:
        offset = (np.arange(side) - (side - 1) / 2) / (GAUSSIAN_SIGMA * side)
        bells.append(np.exp(-(offset**2) / 2))
    return np.broadcast_to(np.outer(*bells).astype(np.float32), images.shape).copy()


def sobel(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the magnitude of the Sobel gradient: knows only the edges."""
    pixels = np.asarray(images, np.float32)
    return np.hypot(ndimage.sobel(pixels, axis=1), ndimage.sobel(pixels, axis=2))


def intensity(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the image itself: knows only that contrast agent is bright."""
    return np.asarray(images, np.float32).copy()


TRIVIAL_MAPS: dict[str, Callable[..., np.ndarray]] = {
    "random": random,
    "constant": constant,
    "gaussian": gaussian,
    "sobel": sobel,
    "intensity": intensity,
}


def trivial_maps(images: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return all trivial maps of grey images (N, H, W): {name: float32 (N, H, W)}."""
    return {name: make(images, seed) for name, make in TRIVIAL_MAPS.items()}


def grid_oracle(masks: np.ndarray, grid: tuple[int, int], cells: Cells | None = None) -> np.ndarray:
    """Return the map of a network that knows the mask but has only `grid` cells: a ceiling for Grad-CAM.

    masks: bool (N, H, W), averaged over each cell's area, then upsampled like Grad-CAM. cells: as in `upsample`.
    Returns float32 (N, H, W).
    At 224 pixels and a lesion of 1 % of the image, 7 x 7 cells cap the mass accuracy near 0.2.
    """
    rows, columns = (_area_weights(side, number, cells) for side, number in zip(masks.shape[1:], grid, strict=True))
    means = rows @ masks.astype(np.float32) @ columns.T
    return upsample(means.astype(np.float32), (masks.shape[1], masks.shape[2]), cells)


def _area_weights(n: int, m: int, cells: Cells | None = None) -> np.ndarray:
    """Return float64 (m, n): the share of each of n pixels in the mean over each of m cells, which may cut pixels.

    A cell extends half a step to both sides of its centre, the outermost ones to the image's border.
    """
    first, step = cells or evenly(m, n)
    edges = first + step * (np.arange(m + 1) - 0.5) + 0.5
    edges[0], edges[-1] = 0, n
    pixels = np.arange(n)
    overlap = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, None)
    return overlap / overlap.sum(axis=1, keepdims=True)


def blurred_to_entropy(maps: np.ndarray, target: np.ndarray, steps: int = 12) -> np.ndarray:
    """Return each map under the Gaussian blur that raises its entropy to `target` (N,); float32 (N, H, W).

    The control for a combined map: averaging blurs, and blur alone can raise a score. Maps that are already as spread
    out as their target are left alone.
    """
    return np.array(
        [_blur_to(values, goal, steps) for values, goal in zip(maps, target, strict=True)], dtype=np.float32
    ).reshape(maps.shape)


def _blur_to(values: np.ndarray, goal: float, steps: int) -> np.ndarray:
    def blurred(sigma: float) -> np.ndarray:
        return ndimage.gaussian_filter(values.astype(np.float64), sigma)

    if not values.any() or entropy(values[None])[0] >= goal:
        return values
    low, high = 0.0, float(max(values.shape))
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if entropy(blurred(middle)[None])[0] < goal else (low, middle)
    return blurred(high)
