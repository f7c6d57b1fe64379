"""Properties of a file and its grey levels that ignore the picture's content: the features of trivial classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

GREY_STATISTICS = (
    *("mean", "std", "skewness", "kurtosis", "entropy"),
    *("percentile_5", "percentile_25", "percentile_50", "percentile_75", "percentile_95"),
    *("dark_share", "bright_share"),
)
# Grey levels up to which a pixel counts as dark (background), and from which as bright.
DARK, BRIGHT = 15, 200


@dataclass(frozen=True)
class Evidence:
    """The features that trivial classifiers use, of N images.

    thumbnails: (N, T, T) grey levels. files: N rows of `file_properties`. grey_levels: float32 (N, 12).
    """

    thumbnails: np.ndarray
    files: pd.DataFrame
    grey_levels: np.ndarray


def file_properties(pixels: np.ndarray, mode: str, size_bytes: int) -> dict[str, Any]:
    """Return properties of a file besides its picture's content, and mean and standard deviation of its grey levels.

    pixels: uint8 (H, W) as decoded, neither cropped nor resized. mode: how the file stores colour ("L", "RGB").
    """
    height, width = pixels.shape
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "mode": mode,
        "bytes": size_bytes,
        "mean": float(pixels.mean()),
        "std": float(pixels.std()),
    }


def grey_statistics(pixels: np.ndarray) -> np.ndarray:
    """Return `GREY_STATISTICS`, float32 (12,), of one image, uint8 (H, W); the order of pixels has no effect.

    Grey levels are 0 to 255, entropy is in bits, kurtosis 0 for a normal distribution.
    """
    counts = np.bincount(pixels.ravel(), minlength=256)
    levels, share = np.arange(256), counts / counts.sum()
    mean = share @ levels
    std = float(np.sqrt(share @ (levels - mean) ** 2))
    skewness, kurtosis = ((share @ (levels - mean) ** power) / max(std, 1e-6) ** power for power in (3, 4))
    percentiles = np.searchsorted(np.cumsum(share), np.array([0.05, 0.25, 0.5, 0.75, 0.95]) - 1e-12)
    tails = share[: DARK + 1].sum(), share[BRIGHT:].sum()
    shape = (mean, std, skewness, kurtosis - 3 if std else 0.0, stats.entropy(share, base=2))
    return np.array([*shape, *percentiles, *tails], np.float32)
