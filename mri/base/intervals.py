"""Confidence intervals of scores: the range that other test sets of the same kind would give.

Images of one patient or near-duplicate group are correlated, and patients are few: 284 images of a class may be of 13.
So whole groups are left out in turn (jackknife), and the interval is Student's t with as many degrees of freedom as the
groups allow. Shares are computed on the logit scale, which keeps them in 0..1. docs/results.md has the coverage of
these intervals in simulations, beside that of the usual percentile bootstrap, which is too narrow with few groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

Estimate = dict[str, float]
UPPER = 0.975  # the quantile above which 2.5 % lie, so that 95 % lie within
NORMAL = NormalDist().inv_cdf(UPPER)


def resample_weights(groups: Sequence | np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return float64 (B, N): 0 for the images that each of B resamples leaves out, those of one group; 1 for the rest.

    groups: (N,) labels; images with equal labels stay together. resamples: the most that there may be. More groups than
    that are dealt at random into so many sets, which are left out in their place (delete-a-group jackknife; Kott 2001).
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    count = int(member.max()) + 1
    if count > resamples:
        member = np.random.default_rng(seed).permutation(count)[member] % resamples
        count = resamples
    return (np.arange(count)[:, None] != member).astype(np.float64)


def estimate(value: float, samples: np.ndarray, groups: int | None = None, least: float = -np.inf) -> Estimate:
    """Return {value, low, high}: a score and its 95 % interval, from its values in the resamples, ignoring NaN.

    groups: for a score from 0 to 1, the number of independent groups behind it; its interval stays within 0..1. Where
    leaving groups out changes nothing, it gets Wilson's interval for that many groups; a single group tells nothing.
    least: of another score, the smallest value that is possible.
    """
    spread = _spread(value, samples[np.isfinite(samples)], groups)
    if groups is not None:
        low, high = _share_limits(value, *spread, groups)
    else:
        half = _t(spread[1]) * spread[0] if spread[0] else 0.0
        low, high = max(value - half, least), value + half
    return {"value": float(value), "low": float(low), "high": float(high)}


def _spread(value: float, samples: np.ndarray, groups: int | None) -> tuple[float, float]:
    """Return the jackknife's standard error and its degrees of freedom.

    These are the effective number of groups of Johnson & Rust (J Educ Stat 17:175, 1992): a few groups that decide
    alone count as few, however many there are.
    """
    squares = (samples - value) ** 2
    counted = int((squares > 1e-24).sum())  # groups that make a difference; less than this is rounding
    if counted == 0:
        return 0.0, 0.0
    left_out = len(samples) if groups is None else min(groups, len(samples))  # those that the score is made of
    variance = squares.sum() * (left_out - 1) / left_out
    effective = (3.16 - 2.77 / np.sqrt(counted)) * squares.sum() ** 2 / (squares**2).sum()
    return float(np.sqrt(variance)), float(np.clip(effective, 1, max(counted - 1, 1)))


def _share_limits(value: float, error: float, freedom: float, groups: int) -> tuple[float, float]:
    if groups < 2:
        return 0.0, 1.0
    if error and 0 < value < 1:
        odds = value / (1 - value)
        with np.errstate(over="ignore"):  # a few groups that contradict each other leave everything possible
            factor = np.exp(_t(freedom) * error / (value * (1 - value)))
        return float(odds / (odds + factor)), float(1 - 1 / (1 + odds * factor))
    return _wilson_limits(value, groups, _t(groups - 1))


def _t(freedom: float) -> float:
    from scipy.special import stdtrit  # takes a while to import, and the service needs `wilson` alone

    return float(stdtrit(freedom, UPPER))


def estimate_mean(values: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return {value, low, high} of the mean of (N,) over images; values that aren't finite are left out.

    The interval of values from 0 to 1 stays in that range. weights: (B, N) from `resample_weights`. None three times
    where no value is finite.
    """
    defined = np.isfinite(values)
    if not defined.any():
        return {"value": None, "low": None, "high": None}
    values, weights = values[defined], weights[:, defined]
    groups = int((weights == 0).any(1).sum()) if values.min() >= 0 and values.max() <= 1 else None
    return estimate(float(values.mean()), _means(values, weights), groups, 0.0 if values.min() >= 0 else -np.inf)


def estimate_difference(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return {value, low, high, distinguishable} (from 0) of the mean difference of two scores (N,) of the same images.

    Both are finite. weights: (B, N) from `resample_weights`. Nothing is distinguishable on the images of one group.
    """
    lead = first - second
    difference = estimate(float(lead.mean()), _means(lead, weights))
    apart = len(weights) > 1 and not difference["low"] <= 0 <= difference["high"]
    return difference | {"distinguishable": apart}


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # all images of one group
        return weights @ values / weights.sum(1)


def value(score: Estimate | float) -> float:
    """Return the point value of an estimate, or a number without an interval as it is."""
    return score["value"] if isinstance(score, dict) else score


def wilson(successes: int, n: int) -> Estimate:
    """Return a proportion with Wilson's 95 % score interval (JASA 22:209, 1927), for independent images."""
    if n == 0:
        return {"value": 0.0, "low": 0.0, "high": 1.0}
    low, high = _wilson_limits(successes / n, n, NORMAL)
    return {"value": successes / n, "low": low, "high": high}


def _wilson_limits(share: float, n: int, quantile: float) -> tuple[float, float]:
    square = quantile**2 / n
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    # Exact at the ends, which rounding misses by a hair.
    return 0.0 if share == 0 else float(middle - half), 1.0 if share == 1 else float(middle + half)
