"""Fit the gate that stops strange images (`mri.inference.gate`), and score how well it tells them from genuine ones."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mri.base.intervals import estimate, resample_weights
from mri.evaluation.scores import area_under_roc
from mri.inference.gate import Gate, unit

# Inverse strength of the penalty on the head's weights.
PENALTY = 0.1
# Principal axes of the features that the head sees: more only make it slower to fit. On real scans 256 let 17 % of
# upside-down heads through, 768 let 13 %.
AXES = 768
# Least deviation: features that never vary must not be divided by zero.
SMALLEST = 1e-9
# The largest share of strange images that a gate may let through, by kind; a gate that lets more through has failed.
LIMITS = {("far", "all"): 0.01, ("near", "upside_down"): 0.1, ("near", "motion"): 0.3, ("near", "blurred"): 0.3}


def fit_gate(
    genuine: np.ndarray, strange: Mapping[str, np.ndarray], val: np.ndarray, true_positive_rate: float = 0.95
) -> Gate:
    """Return the gate between pooled features of training images, (N, D), and of families of strange ones, (M, D).

    Families and genuine images weigh alike in the fit. It passes at least the given share of validation images, by
    their features `val` (K, D). These must be new to the network: features of images that it was trained on are further
    from strange ones.
    """
    parts = [unit(each) for each in (genuine, *strange.values())]
    family = np.repeat(np.arange(len(parts)), [len(each) for each in parts])
    directions = np.concatenate(parts)
    centre, spread = directions.mean(0), np.maximum(directions.std(0), SMALLEST)
    scaled = (directions - centre) / spread
    axes = PCA(min(AXES, min(scaled.shape) // 2), svd_solver="randomized", random_state=0).fit(scaled)
    head = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=200, tol=1e-3)
    with warnings.catch_warnings():  # more iterations change next to nothing, and the threshold is set afterwards
        warnings.simplefilter("ignore", ConvergenceWarning)
        weights, bias = _log_odds(head.fit(axes.transform(scaled), family))
    weights = weights @ axes.components_ / spread
    bias = bias - weights @ centre - (weights * spread) @ axes.mean_
    gate = Gate(weights.astype(np.float32), bias, np.inf)
    return replace(gate, threshold=gate_threshold(gate.score(val), true_positive_rate))


def _log_odds(head: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (F, A) and bias (F,) of the log-odds of each family against the genuine images, class 0."""
    if len(head.coef_) == 1:  # of a single family scikit-learn keeps the log-odds
        return head.coef_, head.intercept_
    return head.coef_[1:] - head.coef_[0], head.intercept_[1:] - head.intercept_[0]


def gate_threshold(inside: np.ndarray, true_positive_rate: float) -> float:
    """Return the least score that at least this share (0 to 1) of the genuine images' scores (N,) doesn't exceed."""
    return float(np.quantile(inside, true_positive_rate, method="inverted_cdf"))


def failures(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which kinds of strange images a gate lets through more often than LIMITS allow; empty for a good gate.

    scores: by distance ("far", "near") and kind, as from `scores_by_kind`.
    """
    return [
        kind if kind != "all" else distance
        for (distance, kind), limit in LIMITS.items()
        if kind in scores[distance] and scores[distance][kind]["let_through"]["value"] > limit
    ]


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
    images of each kind. Returns what `detection_scores` does.
    """
    every, owners = (np.concatenate(parts) for parts in zip(*strange.values(), strict=True))
    return {
        kind: detection_scores(threshold, inside, outside, groups, outside_groups, resamples, seed)
        for kind, (outside, outside_groups) in {"all": (every, owners), **strange}.items()
    }


def detection_scores(
    threshold: float,
    inside: np.ndarray,
    outside: np.ndarray,
    inside_groups: Sequence | np.ndarray,
    outside_groups: Sequence | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score how well the gate tells strange images from genuine ones: {auroc, let_through}, each {value, low, high}.

    threshold: the gate's. inside: (N,) scores of genuine images. outside: (M,) scores of strange ones. inside_groups,
    outside_groups: (N,) and (M,), what is resampled together: a strange image made from a genuine one has that one's
    group. auroc: the chance that a strange image scores higher; 1 is perfect, 0.5 is chance. let_through: the share of
    strange images that pass; 0 is perfect.
    """
    together = np.concatenate([np.asarray(inside_groups), np.asarray(outside_groups)])
    weights = np.concatenate([np.ones((1, len(together))), resample_weights(together, resamples, seed)])
    first, second = np.split(weights, [len(inside)], axis=1)
    with np.errstate(invalid="ignore"):  # of few groups, a resample may hold no strange image
        areas, rates = auroc(inside, outside, first, second), second @ (outside <= threshold) / second.sum(1)
    count = len(np.unique(np.asarray(outside_groups)))
    scores = {"auroc": areas, "let_through": rates}
    return {name: estimate(float(values[0]), values[1:], groups=count) for name, values in scores.items()}


def auroc(
    inside: np.ndarray, outside: np.ndarray, inside_weights: np.ndarray, outside_weights: np.ndarray
) -> np.ndarray:
    """Return the chance, (B,), that a strange image outscores a genuine one; ties count half.

    Weights: (B, N) and (B, M).
    """
    strange = np.arange(len(inside) + len(outside)) >= len(inside)
    weights = np.concatenate([inside_weights, outside_weights], axis=1)
    return area_under_roc(np.concatenate([inside, outside]), strange, weights)
