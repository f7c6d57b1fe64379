"""Combine the maps of several networks into one, and measure how far the networks agree on where to look.

All networks explain the same class, the consensus class: the highest mean of their calibrated probabilities.

    scale        s_m = a_m / sum(a_m): every network's map has the same mass, 1; a map of zeros stays zero.
    weight       w_m = max(p_m - 1/C, 0), then divided by their sum: confidence in the consensus class beyond guessing.
                 A network that guesses has no weight. Where all of them guess, all weigh the same.
    map          sum_m w_m * s_m
    top set      T_m: the `top` share of the pixels that are highest in a_m, without zeros; ties at the edge all count.
    agreement    mean of |T_i & T_j| / |T_i | T_j| over pairs of networks, a pair weighing w_i * w_j: 0 to 1.
    correlation  the same mean of Spearman's rank correlation over the whole image: -1 to 1.
    threshold    1 - agreement / 2, as a share of the map's maximum. Where networks agree, the region is cut at half
                 the maximum, as in full width at half maximum; the less they agree, the closer to the peak it is cut,
                 down to the peak alone where their top sets are disjoint.
    dispute      pixels in the top set of some networks but not of all, among those with a weight.

Agreement is not correctness: networks trained on the same images share their shortcuts. Whether agreement predicts a
right class, and whether the combined map beats the best single one, is measured in `mri.explanation.agreement`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

TOP = 0.05


class Consensus(NamedTuple):
    """The consensus of M networks on N images, as `combine` returns it.

    map: float32 (N, H, W), non-negative; its sum is 1 unless maps of zeros took part.
    weights: float64 (M, N), one column per image; a column sums to 1.
    agreement, correlation: float64 (N,); NaN where fewer than two networks have a weight.
    threshold: float64 (N,), in 0.5 to 1, share of the map's maximum (1 where agreement is NaN).
    region: bool (N, H, W), the map at or above the threshold.
    disputed: bool (N, H, W).
    """

    map: np.ndarray
    weights: np.ndarray
    agreement: np.ndarray
    correlation: np.ndarray
    threshold: np.ndarray
    region: np.ndarray
    disputed: np.ndarray

    @property
    def disputed_area(self) -> np.ndarray:
        """Return float64 (N,): the share of the image's pixels that some but not all networks point to."""
        return self.disputed.mean(axis=(1, 2))


def consensus_class(probabilities: np.ndarray) -> np.ndarray:
    """Return int (N,): the class with the highest mean of calibrated probabilities (M, N, C) over the networks."""
    return probabilities.mean(axis=0).argmax(axis=1)


def confidence_weights(probabilities: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return float64 (M, N), columns sum to 1: each network's weight.

    probabilities: float (M, N, C), calibrated. target: int (N,), the class explained.
    """
    above_chance = np.maximum(probabilities[:, np.arange(len(target)), target] - 1 / probabilities.shape[2], 0)
    total = above_chance.sum(axis=0)
    equal = np.full_like(above_chance, 1 / len(above_chance))
    return np.divide(above_chance, total, where=total > 0, out=equal)


def combine(maps: np.ndarray, weights: np.ndarray, top: float = TOP) -> Consensus:
    """Combine M networks' maps of one class per image.

    maps: float (M, N, H, W), raw and non-negative, each on its own scale.
    weights: float (M, N) from `confidence_weights`.
    top: share of the pixels that counts as what a network points to.
    """
    shares = _unit_mass(maps)
    combined = np.einsum("mn,mnhw->nhw", weights, shares)
    tops = _top_sets(shares, top)
    agreement = _pair_mean(weights, lambda i, j: _overlap(tops[i], tops[j]))
    correlation = _pair_mean(weights, lambda i, j: np.nan_to_num(spearman(shares[i], shares[j])))
    threshold = 1 - np.nan_to_num(agreement) / 2
    peak = combined.max(axis=(1, 2))
    # Just below the threshold, so that rounding can't lose the maximum itself.
    region = (combined >= (threshold * peak * (1 - 1e-9))[:, None, None]) & (combined > 0)
    return Consensus(
        combined.astype(np.float32), weights, agreement, correlation, threshold, region, _disputed(tops, weights)
    )


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return float64 (N,): the rank correlation of maps (N, H, W) of the same images, -1 to 1; NaN for constant maps.

    Maps are non-negative.
    """
    ranks = [stats.rankdata(maps.reshape(len(maps), maps.shape[1] * maps.shape[2]), axis=1) for maps in (first, second)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def _unit_mass(maps: np.ndarray) -> np.ndarray:
    values = np.maximum(np.asarray(maps, np.float64), 0)
    mass = values.sum(axis=(2, 3), keepdims=True)
    return np.divide(values, mass, where=mass > 0, out=np.zeros_like(values))


def _top_sets(maps: np.ndarray, top: float) -> np.ndarray:
    values = maps.reshape(*maps.shape[:2], maps.shape[2] * maps.shape[3])
    k = max(1, round(top * values.shape[2]))
    edge = np.partition(values, -k, axis=2)[:, :, -k, None]
    return ((values >= edge) & (values > 0)).reshape(maps.shape)


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union of bool (N, H, W); 0 where both are empty: nothing was agreed on."""
    union = (first | second).sum(axis=(1, 2))
    return (first & second).sum(axis=(1, 2)) / np.maximum(union, 1)


def _pair_mean(weights: np.ndarray, measure: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Return the mean of measure(i, j) over pairs of networks, weighted by w_i * w_j; NaN where all weigh 0."""
    total, mass = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for i, j in combinations(range(len(weights)), 2):
        weight = weights[i] * weights[j]
        total += weight * measure(i, j)
        mass += weight
    return np.divide(total, mass, where=mass > 0, out=np.full_like(total, np.nan))


def _disputed(tops: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weighted = (weights > 0)[:, :, None, None]
    some, every = (tops & weighted).any(axis=0), (tops | ~weighted).all(axis=0)
    return np.logical_and(some, ~every)
