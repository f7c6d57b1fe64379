"""Grey levels of any scale as 8 bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Grey levels between these percentiles fill 0..255 where a file brings no window of its own.
PERCENTILES = (0.1, 99.9)
# Rows that are worked on at a time where a step needs several times the memory of its result.
STRIP = 512


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Return grey levels of any scale as uint8 of the same shape: `PERCENTILES` of the finite ones become 0 and 255."""
    values = np.asarray(values, dtype=np.float32)
    return stretch(values, *value_range(values))


def value_range(values: np.ndarray) -> tuple[float, float]:
    """Return the levels that become black and white: `PERCENTILES` of the finite values, or their extremes."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 0.0
    # It may reorder `finite`, which is a copy already.
    low, high = (float(level) for level in np.percentile(finite, PERCENTILES, overwrite_input=True))
    if high <= low:  # nearly all pixels are equal: percentiles see no contrast, the extremes may
        low, high = float(finite.min()), float(finite.max())
    return low, high


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as uint8, `low` and below (and what is no number) as 0, `high` and above as 255."""
    if not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = np.clip(values, low, high)
    scaled -= low
    scaled *= 255 / max(high - low, 1e-30)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def in_strips(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray, dtype: type) -> np.ndarray:
    """Return what a function of single pixels makes of values (H, W), some rows at a time to keep its copies small."""
    results = np.empty(values.shape, dtype)
    for top in range(0, len(values), STRIP):
        results[top : top + STRIP] = function(values[top : top + STRIP])
    return results
