"""Fit the gate that stops strange images (`mri.inference.gate`), and score how well it tells them from genuine ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from mri.base.intervals import estimate, resample_weights
from mri.evaluation.scores import area_under_roc
from mri.inference.gate import Gate, unit

# More gain nothing on synthetic or real slices; with 64 a file for 2,048 channels has 0.6 MB.
AXES = 64
# Least variance: that of features that never vary must not be zero.
SMALLEST = 1e-12


def fit_gate(train: np.ndarray, val: np.ndarray, true_positive_rate: float = 0.95, axes: int = AXES) -> Gate:
    """Return the gate around pooled features `train` (N, D) that passes at least the given share of `val` (M, D).

    It has at most half as many axes as the smaller of N and D. The validation images must be new to the network:
    features of images that it was trained on lie closer together.
    """
    directions = unit(train)
    axes = min(axes, min(train.shape) // 2)
    pca = PCA(axes, svd_solver="randomized", random_state=0).fit(directions)
    variances = pca.explained_variance_
    rest = (directions.var(0, ddof=1).sum() - variances.sum()) / (train.shape[1] - axes)
    gate = Gate(
        pca.mean_.astype(np.float32),
        pca.components_.astype(np.float16, order="C"),
        np.maximum(variances, SMALLEST).astype(np.float32),
        max(float(rest), SMALLEST),
        threshold=np.inf,
    )
    return replace(gate, threshold=gate_threshold(gate.score(val), true_positive_rate))


def gate_threshold(inside: np.ndarray, true_positive_rate: float) -> float:
    """Return the least score that at least this share (0 to 1) of the genuine images' scores (N,) doesn't exceed."""
    return float(np.quantile(inside, true_positive_rate, method="inverted_cdf"))


def scores_by_kind(
    threshold: float,
    inside: np.ndarray,
    groups: np.ndarray,
    strange: Mapping[str, tuple[np.ndarray, np.ndarray]],
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Score a gate against each kind of strange images, and against "all" of them together.

    threshold: the gate's. inside, groups: (N,), scores and groups of the genuine images. strange: the same of the
    images of each kind. Returns what `detection_scores` does, and let_through: the share of strange images that pass.
    """
    every, owners = (np.concatenate(parts) for parts in zip(*strange.values(), strict=True))
    return {
        kind: detection_scores(inside, outside, groups, outside_groups, resamples, seed)
        | {"let_through": float((outside <= threshold).mean())}
        for kind, (outside, outside_groups) in {"all": (every, owners), **strange}.items()
    }


def detection_scores(
    inside: np.ndarray,
    outside: np.ndarray,
    inside_groups: Sequence | np.ndarray,
    outside_groups: Sequence | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score how well the gate tells strange images from genuine ones: {auroc, fpr_at_95_tpr}, each {value, low, high}.

    inside: (N,) scores of genuine images. outside: (M,) scores of strange ones. inside_groups, outside_groups: (N,) and
    (M,), what is resampled together: a strange image made from a genuine one has that one's group.
    auroc: the chance that a strange image scores higher; 1 is perfect, 0.5 is chance. fpr_at_95_tpr: the share of
    strange images that pass the threshold which 95 % of these genuine ones pass; 0 is perfect.
    """
    draws = drawn_together(np.asarray(inside_groups), np.asarray(outside_groups), resamples, seed)
    first, second = (np.concatenate([np.ones((1, weights.shape[1])), weights]) for weights in draws)
    with np.errstate(invalid="ignore"):  # of few groups, a resample may hold no strange image
        areas, rates = auroc(inside, outside, first, second), false_positive_rate(inside, outside, first, second)
    count = len(np.unique(np.asarray(outside_groups)))
    scores = {"auroc": areas, "fpr_at_95_tpr": rates}
    return {name: estimate(float(values[0]), values[1:], groups=count) for name, values in scores.items()}


def drawn_together(
    inside_groups: np.ndarray, outside_groups: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each genuine and each strange image occurs in each of B resamples, float64 (B, N) and (B, M).

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
    """Return the chance, (B,), that a strange image outscores a genuine one; ties count half.

    Weights: (B, N) and (B, M).
    """
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
    """Return the share, (B,), of strange images that pass the threshold of that true positive rate.

    Weights: (B, N) and (B, M).
    """
    order = np.argsort(inside, kind="stable")
    passed = np.cumsum(inside_weights[:, order], axis=1)
    least = (passed >= true_positive_rate * passed[:, -1:] - 1e-9).argmax(1)
    let_through = outside <= inside[order][least][:, None]
    return (outside_weights * let_through).sum(1) / outside_weights.sum(1)
