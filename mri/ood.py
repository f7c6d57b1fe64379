"""Fitting the gate that an image has to pass (`mri.gate`), and how well its score tells strange images from genuine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from mri.evaluation import area_under_roc
from mri.gate import Gate, unit
from mri.intervals import estimate, resample_weights

# More gain nothing on synthetic or real slices; with 64 a file for 2,048 channels has 0.6 MB.
AXES = 64
# Least variance: that of features that never vary must not be zero.
SMALLEST = 1e-12


def fit(train: np.ndarray, val: np.ndarray, true_positive_rate: float = 0.95, axes: int = AXES) -> Gate:
    """The gate around pooled features `train` (N, D) that lets through at least the given share of `val` (M, D).

    Never more axes than half of N or D, whichever is less. The validation images must be new to the network: features
    of those it was trained on lie closer together.
    """
    directions = unit(train)
    axes = min(axes, min(train.shape) // 2)
    fitted = PCA(axes, svd_solver="randomized", random_state=0).fit(directions)
    variances = fitted.explained_variance_
    rest = (directions.var(0, ddof=1).sum() - variances.sum()) / (train.shape[1] - axes)
    gate = Gate(
        fitted.mean_.astype(np.float32),
        fitted.components_.astype(np.float16, order="C"),
        np.maximum(variances, SMALLEST).astype(np.float32),
        max(float(rest), SMALLEST),
        threshold=np.inf,
    )
    return replace(gate, threshold=threshold(gate.score(val), true_positive_rate))


def threshold(inside: np.ndarray, true_positive_rate: float) -> float:
    """The least score that at least this share (0 to 1) of the genuine images' scores `inside` (N,) doesn't exceed."""
    return float(np.quantile(inside, true_positive_rate, method="inverted_cdf"))


def summarise(
    inside: np.ndarray,
    outside: np.ndarray,
    inside_groups: Sequence | np.ndarray,
    outside_groups: Sequence | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """How well a score tells strange images from genuine ones: {auroc, fpr_at_95_tpr}, each {value, low, high}.

    inside: (N,) scores of genuine images. outside: (M,) scores of strange ones. inside_groups, outside_groups: (N,) and
    (M,), what is resampled together: a strange image that was made from a genuine one has that one's group.
    auroc: the chance that a strange one scores higher; 1 is perfect, 0.5 is chance. fpr_at_95_tpr: the share of strange
    ones let through by the threshold that lets 95 % of these genuine ones through; 0 is perfect.
    """
    drawn = drawn_together(np.asarray(inside_groups), np.asarray(outside_groups), resamples, seed)
    first, second = (np.concatenate([np.ones((1, part.shape[1])), part]) for part in drawn)
    with np.errstate(invalid="ignore"):  # of few groups, a resample may hold no strange image
        areas, rates = auroc(inside, outside, first, second), false_positive_rate(inside, outside, first, second)
    count = len(np.unique(np.asarray(outside_groups)))
    scores = {"auroc": areas, "fpr_at_95_tpr": rates}
    return {name: estimate(float(values[0]), values[1:], groups=count) for name, values in scores.items()}


def drawn_together(
    inside_groups: np.ndarray, outside_groups: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """float64 (B, N) and (B, M): how often each genuine and each strange image occurs in each of B resamples.

    Groups of genuine images are drawn once for both; strange images of other groups are drawn by themselves.
    """
    shared = np.isin(outside_groups, inside_groups)
    together = resample_weights(np.concatenate([inside_groups, outside_groups[shared]]), resamples, seed)
    outside = np.empty((resamples, len(outside_groups)))
    outside[:, shared] = together[:, len(inside_groups) :]
    if not shared.all():
        outside[:, ~shared] = resample_weights(outside_groups[~shared], resamples, seed + 1)
    return together[:, : len(inside_groups)], outside


def auroc(
    inside: np.ndarray, outside: np.ndarray, inside_weights: np.ndarray, outside_weights: np.ndarray
) -> np.ndarray:
    """(B,) chance that a strange image outscores a genuine one, ties counting half; weights: (B, N) and (B, M)."""
    strange = np.arange(len(inside) + len(outside)) >= len(inside)
    weights = np.concatenate([inside_weights, outside_weights], axis=1)
    return area_under_roc(np.concatenate([inside, outside]), strange, weights)


def false_positive_rate(
    inside: np.ndarray,
    outside: np.ndarray,
    inside_weights: np.ndarray,
    outside_weights: np.ndarray,
    true_positive_rate: float = 0.95,
) -> np.ndarray:
    """(B,) share of strange images that the `threshold` of that rate lets through; weights: (B, N) and (B, M)."""
    order = np.argsort(inside, kind="stable")
    passed = np.cumsum(inside_weights[:, order], axis=1)
    least = (passed >= true_positive_rate * passed[:, -1:] - 1e-9).argmax(1)
    let_through = outside <= inside[order][least][:, None]
    return (outside_weights * let_through).sum(1) / outside_weights.sum(1)
