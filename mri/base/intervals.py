"""Confidence intervals of scores: the range that other test sets of the same kind would give.

Images of one patient or near-duplicate group are correlated, so whole groups are resampled (cluster bootstrap; Field &
Welsh 2007). A resample is a vector of weights, one per image, so 2,000 of them are one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Estimate = dict[str, float]


def resample_weights(groups: Sequence | np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return float64 (B, N): how often each image occurs in each of B resamples, which draw as many groups as exist.

    groups: (N,) labels; images with equal labels stay together.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    group_count = int(member.max()) + 1
    counts = np.random.default_rng(seed).multinomial(group_count, np.full(group_count, 1 / group_count), size=resamples)
    return counts.astype(np.float64)[:, member]


def estimate(value: float, samples: np.ndarray, level: float = 0.95, groups: int | None = None) -> Estimate:
    """Return {value, low, high}: a point value and the central `level` of its resampled values, ignoring NaN.

    The interval is widened to hold the point value, since resampling biases scores such as the calibration error.
    groups: for a share, the number of independent groups behind it. A share that is 0, or 1, in every resample would
    get an interval of width 0; it gets Wilson's interval for that many groups instead.
    """
    samples = samples[np.isfinite(samples)]
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2]) if len(samples) else (value, value)
    if groups is not None and low == high == value and value in (0, 1):
        return wilson(int(value) * groups, groups)
    return {"value": float(value), "low": float(min(low, value)), "high": float(max(high, value))}


def estimate_mean(values: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return {value, low, high} of the mean of (N,) over images; values that aren't finite are left out.

    weights: (B, N) from `resample_weights`. None three times where no value is finite.
    """
    defined = np.isfinite(values)
    if not defined.any():
        return {"value": None, "low": None, "high": None}
    if not defined.all():
        values, weights = values[defined], weights[:, defined]
    with np.errstate(invalid="ignore", divide="ignore"):
        return estimate(float(values.mean()), weights @ values / weights.sum(1))


def estimate_difference(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return {value, low, high, distinguishable} (from 0) of the mean difference of two scores (N,) of the same images.

    Both are finite. weights: (B, N) from `resample_weights`.
    """
    difference = estimate_mean(first - second, weights)
    return difference | {"distinguishable": not difference["low"] <= 0 <= difference["high"]}


def value(score: Estimate | float) -> float:
    """Return the point value of an estimate, or a number without an interval as it is."""
    return score["value"] if isinstance(score, dict) else score


def wilson(successes: int, n: int) -> Estimate:
    """Return a proportion with Wilson's 95 % score interval (JASA 22:209, 1927), for independent images."""
    from scipy.stats import binomtest  # takes half a second to import, and few callers get here

    if n == 0:
        return {"value": 0.0, "low": 0.0, "high": 1.0}
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    # Exact at the ends, which rounding misses by a hair.
    low, high = 0.0 if successes == 0 else interval.low, 1.0 if successes == n else interval.high
    return {"value": successes / n, "low": float(low), "high": float(high)}
