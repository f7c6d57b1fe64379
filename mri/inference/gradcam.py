"""Grad-CAM in closed form, with numpy alone: what a served model needs to explain itself.

For a network that ends in global average pooling and one linear layer, the gradient of a logit with respect to the
features is that class's weights, the same in every cell. So Grad-CAM (Selvaraju et al. 2017) needs no backward pass:
it is class activation mapping (Zhou et al. 2016), and any runtime that returns features beside logits can explain.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Cells(NamedTuple):
    """Where a network's features look: cell i of each axis is centred on pixel `first + i * step` (of 0, 1, 2, ...)."""

    first: float
    step: float


def gradcam_from_features(features: np.ndarray, head_weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return Grad-CAM of the last features: relu(sum_k w[target, k] * features[k]) / (h * w).

    features: float (N, K, h, w), what global average pooling reads.
    head_weights: float (C, K), of the linear layer after it.
    target: int (N,), the class to explain per image.

    Returns float32 (N, h, w), non-negative: what each cell adds to the target's logit, negative contributions dropped.
    """
    n, k, height, width = features.shape
    weights = np.asarray(head_weights, np.float32)[np.asarray(target)]
    contributions = weights[:, None, :] @ np.asarray(features, np.float32).reshape(n, k, height * width)
    return np.maximum(contributions.reshape(n, height, width) / (height * width), 0)


def guided_gradcam(guided_backprop: np.ndarray, gradcam: np.ndarray) -> np.ndarray:
    """Return Guided Grad-CAM (Selvaraju et al. 2017): the product of both maps, which have the size of the image."""
    return guided_backprop * gradcam


def upsample(maps: np.ndarray, size: tuple[int, int], cells: Cells | None = None) -> np.ndarray:
    """Interpolate (N, h, w) bilinearly to (N, *size).

    cells: where the cells are centred; by default they share the image evenly, as in Grad-CAM libraries (torch's
    align_corners=False). Beyond the outermost centres the map stays constant.

    Returns float32, or float64 for float64 maps, within the range of the input.
    """
    rows, columns = (bilinear_weights(n, m, cells) for n, m in zip(maps.shape[1:], size, strict=True))
    kind = np.float64 if maps.dtype == np.float64 else np.float32
    return rows.astype(kind) @ maps.astype(kind, copy=False) @ columns.T.astype(kind)


def evenly(n: int, m: int) -> Cells:
    """Return the centres of n cells that share m pixels evenly."""
    return Cells((m / n - 1) / 2, m / n)


@lru_cache(maxsize=64)
def bilinear_weights(n: int, m: int, cells: Cells | None = None) -> np.ndarray:
    """Return float64 (m, n): row i holds the shares of n samples in the i-th of m interpolated ones; rows sum to 1."""
    first, step = cells or evenly(n, m)
    position = np.clip((np.arange(m) - first) / step, 0, n - 1)
    lower = np.floor(position).astype(int)
    upper = np.minimum(lower + 1, n - 1)
    weights = np.zeros((m, n))
    np.add.at(weights, (np.arange(m), lower), 1 - (position - lower))
    np.add.at(weights, (np.arange(m), upper), position - lower)
    weights.setflags(write=False)  # the cache hands out one array to all
    return weights
