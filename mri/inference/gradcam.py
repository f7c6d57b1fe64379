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

    def scaled(self, scale: float) -> Cells:
        """Return the same places in an image that is `scale` times as large."""
        return Cells((self.first + 0.5) * scale - 0.5, self.step * scale)


def gradcam_from_features(features: np.ndarray, head_weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return Grad-CAM of the last features, float32 (N, h, w): `contributions` of one class, negative ones dropped.

    features, head_weights: as in `contributions`. target: int (N,), the class to explain per image.
    """
    weights = np.asarray(head_weights)[np.asarray(target)]
    return np.maximum(contributions(features, weights[:, None])[:, 0], 0)


def contributions(features: np.ndarray, head_weights: np.ndarray) -> np.ndarray:
    """Return what each cell adds to the logit of each class: sum_k w[c, k] * features[k] / (h * w), signed.

    features: float (N, K, h, w), what global average pooling reads.
    head_weights: float (C, K) of the linear layer after it, or (N, C, K).

    Returns float32 (N, C, h, w); its sum over the cells is the logit less the layer's bias.
    """
    n, k, height, width = features.shape
    cells = np.asarray(features, np.float32).reshape(n, k, height * width)
    added = np.asarray(head_weights, np.float32) @ cells / (height * width)
    return added.reshape(n, added.shape[1], height, width)


def guided_gradcam(guided_backprop: np.ndarray, gradcam: np.ndarray) -> np.ndarray:
    """Return Guided Grad-CAM (Selvaraju et al. 2017): the product of both maps, which have the size of the image."""
    return guided_backprop * gradcam


def upsample(maps: np.ndarray, size: tuple[int, int], cells: Cells) -> np.ndarray:
    """Interpolate (N, h, w) bilinearly to (N, *size), each cell drawn where it is centred.

    Beyond the outermost centres the map stays constant. Grad-CAM libraries spread the cells evenly over the image
    instead, half a cell beside where a network looks whose strides pad both sides.

    Returns float32, or float64 for float64 maps, within the range of the input.
    """
    rows, columns = (bilinear_weights(n, m, cells) for n, m in zip(maps.shape[1:], size, strict=True))
    kind = np.float64 if maps.dtype == np.float64 else np.float32
    return rows.astype(kind) @ maps.astype(kind, copy=False) @ columns.T.astype(kind)


@lru_cache(maxsize=64)
def bilinear_weights(n: int, m: int, cells: Cells) -> np.ndarray:
    """Return float64 (m, n): row i holds the shares of n samples in the i-th of m interpolated ones; rows sum to 1."""
    position = np.clip((np.arange(m) - cells.first) / cells.step, 0, n - 1)
    lower = np.floor(position).astype(int)
    upper = np.minimum(lower + 1, n - 1)
    weights = np.zeros((m, n))
    np.add.at(weights, (np.arange(m), lower), 1 - (position - lower))
    np.add.at(weights, (np.arange(m), upper), position - lower)
    weights.setflags(write=False)  # the cache hands out one array to all
    return weights
