"""Intervals around scores: how far another test set of the same kind could have moved them.

Images of one patient or near-duplicate group rise and fall together, so whole groups are resampled (cluster bootstrap;
Field & Welsh 2007). A resample is a vector of weights, one per image, so 2,000 of them are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Estimate = dict[str, float]


def resample_weights(groups: Sequence | np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """float64 (B, N): how often each image occurs in each of B resamples that draw as many groups as there are.

    groups: (N,) labels; images with equal labels stay together.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    count = int(member.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn.astype(np.float64)[:, member]


def estimate(value: float, samples: np.ndarray, level: float = 0.95, groups: int | None = None) -> Estimate:
    """{value, low, high}: a point value and the central `level` of its resampled values (NaN samples are left out).

    Widened to hold the point value, which resampling biases for scores such as the calibration error.
    groups: for a share, of how many groups of images it is one. A share that is 0, or 1, in every resample would be
    said never to change; it gets Wilson's interval of so many independent groups.
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
    """The point value of an estimate, or of a number that has no interval."""
    return score["value"] if isinstance(score, dict) else score


def wilson(successes: int, n: int, z: float = 1.959964) -> Estimate:
    """Wilson's score interval of a proportion (JASA 22:209, 1927), for images that are independent of each other."""
    if n == 0:
        return {"value": 0.0, "low": 0.0, "high": 1.0}
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"value": share, "low": max(0.0, centre - reach), "high": min(1.0, centre + reach)}
