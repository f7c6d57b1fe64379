"""Score predictions, in all and per class, with intervals.

Everything is computed from probabilities, labels and groups; nothing here knows a network. Scores are functions of a
confusion matrix or means over images, so that all resamples of the bootstrap are evaluated at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mri.base.intervals import Estimate, estimate, resample_weights
from mri.evaluation.confidence import expected_calibration_error

TUMOUR_FREE = "notumor"


def summarise(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: list[str],
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all scores of one model on one part of the data.

    probabilities: (N, C), rows sum to 1. labels: int (N,). groups: (N,), what is resampled together.
    `accuracy`, `balanced_accuracy` and `macro_f1` are {value, low, high}; the other scores are numbers whose 95 %
    intervals are under `intervals` in the same places. Higher is better, except for missed_tumour_rate (the share of
    tumours predicted as tumour-free), nll (nats), brier (0..2) and ece (0..1).
    `per_class` holds the classes that occur: a test set may lack some. Also left out is what these images don't define:
    missed_tumour_rate where there is no tumour, auc where all images are of one class.
    """
    weights = resample_weights(groups, resamples, seed)
    everything = np.ones((1, len(labels)))
    counts = confusion(labels, probabilities.argmax(1), len(classes), everything)[0]
    support = dict(zip(classes, counts.sum(1).astype(int).tolist(), strict=True))
    points, samples = (_scores(probabilities, labels, classes, w) for w in (everything, weights))
    group_counts = _group_counts(labels, probabilities.argmax(1), np.asarray(groups), classes)
    absent = tuple(f"per_class.{name}." for name, images in support.items() if not images)
    estimates = {
        name: estimate(value, samples[name], groups=group_counts.get(name))
        for name, (value,) in points.items()
        if np.isfinite(value) and not name.startswith(absent)
    }
    headline = {name: estimates[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    rest = {name: value for name, value in estimates.items() if name not in headline}
    values = _nested({name: value["value"] for name, value in rest.items()})
    for name in values["per_class"]:
        values["per_class"][name]["support"] = support[name]
    return {
        "n": len(labels),
        "groups": len(np.unique(np.asarray(groups))),
        **headline,
        **values,
        "confusion": counts.astype(int).tolist(),
        "intervals": _nested({name: [value["low"], value["high"]] for name, value in rest.items()}),
    }


def from_table(table: pd.DataFrame, classes: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities (N, C), labels int (N,) and groups (N,) of a table of predictions.

    table: with the columns label, group and p_CLASS.
    """
    labels = table["label"].map(classes.index).to_numpy(np.int64)
    return table[[f"p_{name}" for name in classes]].to_numpy(), labels, table["group"].to_numpy()


def missed_tumours(scores: dict[str, Any]) -> dict[str, Estimate]:
    """Return {"missed_tumour_rate": {value, low, high}} of what `summarise` returns.

    {} where there is no tumour to miss, or no class means tumour-free.
    """
    if "missed_tumour_rate" not in scores:
        return {}
    low, high = scores["intervals"]["missed_tumour_rate"]
    return {"missed_tumour_rate": {"value": scores["missed_tumour_rate"], "low": low, "high": high}}


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Return weighted counts of true (rows) by predicted class (columns) in each of B resamples, (B, C, C)."""
    cells = np.zeros((len(labels), classes * classes))
    cells[np.arange(len(labels)), labels * classes + predicted] = 1
    return (weights @ cells).reshape(-1, classes, classes)


def accuracy(labels: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Return the share of images classified correctly in each of B resamples, (B,)."""
    return weights @ (labels == predicted) / weights.sum(1)


def macro_f1(labels: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Return macro-F1, the mean F1 of the classes that occur or are predicted, in each of B resamples, (B,).

    A class that is predicted and doesn't occur counts as 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nanmean(_f1(confusion(labels, predicted, classes, weights)), axis=1)


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Return the mean recall of the classes that occur, in each of B resamples, (B,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nanmean(_recall(confusion(labels, predicted, classes, weights)), axis=1)


def _recall(matrix: np.ndarray) -> np.ndarray:
    """Return recall per class, (B, C); NaN for a class that doesn't occur."""
    true = matrix.sum(2)
    return np.where(true > 0, np.diagonal(matrix, axis1=1, axis2=2) / true, np.nan)


def _f1(matrix: np.ndarray) -> np.ndarray:
    """Return F1 per class, (B, C); NaN for a class that neither occurs nor is predicted."""
    correct = np.diagonal(matrix, axis1=1, axis2=2)
    both = matrix.sum(2) + matrix.sum(1)
    return np.where(both > 0, 2 * correct / both, np.nan)


def _scores(probabilities: np.ndarray, labels: np.ndarray, classes: list[str], weights: np.ndarray) -> dict:
    """Return every score by its path ("per_class.glioma.f1"), as (B,) arrays."""
    matrix = confusion(labels, probabilities.argmax(1), len(classes), weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = _confusion_scores(matrix, classes)
        likelihood = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1)
        onehot = np.eye(len(classes))[labels]
        scores["nll"] = weights @ -np.log(likelihood) / weights.sum(1)
        scores["brier"] = weights @ ((probabilities - onehot) ** 2).sum(1) / weights.sum(1)
        scores["ece"] = expected_calibration_error(probabilities, labels, weights)
        for i, name in enumerate(classes):
            scores[f"per_class.{name}.auc"] = area_under_roc(probabilities[:, i], labels == i, weights)
    return scores


def _confusion_scores(matrix: np.ndarray, classes: list[str]) -> dict[str, np.ndarray]:
    correct = np.diagonal(matrix, axis1=1, axis2=2)
    true, predicted = matrix.sum(2), matrix.sum(1)
    recall = _recall(matrix)
    precision = np.where(predicted > 0, correct / predicted, 0.0)
    f1 = _f1(matrix)
    scores = {
        "accuracy": correct.sum(1) / true.sum(1),
        "balanced_accuracy": np.nanmean(recall, axis=1),
        "macro_f1": np.nanmean(f1, axis=1),
    }
    for i, name in enumerate(classes):
        for score, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            scores[f"per_class.{name}.{score}"] = values[:, i]
    if TUMOUR_FREE in classes:
        free = classes.index(TUMOUR_FREE)
        tumours = true.sum(1) - true[:, free]
        scores["missed_tumour_rate"] = (matrix[:, :, free].sum(1) - matrix[:, free, free]) / tumours
    return scores


def _group_counts(labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray, classes: list[str]) -> dict[str, int]:
    """Count the groups of images behind each score that is a share, or a mean of shares, by the score's path."""

    def count(where: np.ndarray) -> int:
        return len(np.unique(groups[where]))

    counts = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), count(labels >= 0))
    for i, name in enumerate(classes):
        counts |= dict.fromkeys((f"per_class.{name}.{score}" for score in ("recall", "f1", "auc")), count(labels == i))
        counts[f"per_class.{name}.precision"] = count(predicted == i)
    if TUMOUR_FREE in classes:
        counts["missed_tumour_rate"] = count(labels != classes.index(TUMOUR_FREE))
    return counts


def area_under_roc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve, (B,): the chance that a positive outscores a negative; ties count half.

    scores: (N,). positive: bool (N,). weights: (B, N).
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)  # of each run of equal scores
    ones = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    zeros = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros
    return (ones * (below + zeros / 2)).sum(1) / (ones.sum(1) * zeros.sum(1))


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Turn {"a.b": 1} into {"a": {"b": 1}}."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
