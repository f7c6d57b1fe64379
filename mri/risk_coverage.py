"""What a network gains by abstaining: the error among the images that it is most confident about.

Coverage is the share of images that the network answers, most confident first; risk is the share wrong among them.
Images of equal confidence can't be told apart, so errors count as spread evenly over them.

In all functions, confidence: (N,), higher is surer; wrong: bool (N,); weights: (B, N), how often each image counts in
each of B resamples (`mri.intervals.resample_weights`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import digamma

from mri.intervals import estimate, resample_weights

COVERAGES = (0.8, 0.9, 0.95)
ACCURACIES = (0.99,)


def summarise(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """How well the largest probability tells right from wrong; every score as {value, low, high}.

    probabilities: (N, C). labels: int (N,). groups: (N,), what is resampled together.
    augrc, aurc: lower is better. accuracy_at_coverage, by per cent: accuracy on so many, the most confident, images.
    coverage_at_accuracy, by per cent: the largest share of images of which so many are right; higher is better.
    """
    confidence, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    weights = np.concatenate([np.ones((1, len(labels))), resample_weights(groups, resamples, seed)])

    def scored(score: Any, *arguments: float) -> dict[str, float]:
        values = score(confidence, wrong, weights, *arguments)
        return estimate(float(values[0]), values[1:])

    return {
        "augrc": scored(augrc),
        "aurc": scored(aurc),
        "accuracy_at_coverage": {f"{100 * share:.0f}": scored(accuracy_at_coverage, share) for share in COVERAGES},
        "coverage_at_accuracy": {f"{100 * share:.0f}": scored(coverage_at_accuracy, share) for share in ACCURACIES},
    }


def risk_coverage_curve(confidence: np.ndarray, wrong: np.ndarray) -> pd.DataFrame:
    """A row per confidence that occurs, falling: confidence, coverage, risk, joint_risk (covered and wrong, of all)."""
    total = _totals(confidence, wrong, np.ones((1, len(wrong))))
    images, errors = total.images[0, 1:], total.errors[0, 1:]
    return pd.DataFrame(
        {
            "confidence": np.unique(confidence)[::-1],
            "coverage": images / len(wrong),
            "risk": errors / images,
            "joint_risk": errors / len(wrong),
        }
    )


def augrc(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) area under the generalised risk-coverage curve (Traub et al. 2024): mean joint risk over all coverages.

    The chance that of two images drawn at random the first is wrong, yet at least as sure as the second: with an error
    of e, e^2 / 2 at best, e / 2 when confidence means nothing, e - e^2 / 2 at worst (N large). Lower is better.
    """
    total = _totals(confidence, wrong, weights)
    size, errors = np.diff(total.images), np.diff(total.errors)
    return (size * total.errors[:, :-1] + errors * (size + 1) / 2).sum(1) / weights.sum(1) ** 2


def aurc(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) area under the risk-coverage curve (Geifman & El-Yaniv 2017): mean risk over all coverages.

    Lower is better. A few of the most confident images dominate it; prefer `augrc`.
    """
    total = _totals(confidence, wrong, weights)
    size, errors = np.diff(total.images), np.diff(total.errors)
    before, errors_before = total.images[:, :-1], total.errors[:, :-1]
    rate = np.divide(errors, size, out=np.zeros_like(errors), where=size > 0)
    # The sum over j = 1 .. size of (errors_before + rate j) / (before + j), with digamma for the harmonic part.
    harmonic = digamma(before + size + 1) - digamma(before + 1)
    return (errors + (errors_before - rate * before) * harmonic).sum(1) / weights.sum(1)


def accuracy_at_coverage(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """(B,) accuracy on the `share` of images (0 to 1) that the network is most confident about."""
    total = _totals(confidence, wrong, weights)
    answered = share * weights.sum(1)
    rows = zip(answered, total.images, total.errors, strict=True)
    return 1 - np.array([np.interp(number, images, errors) for number, images, errors in rows]) / answered


def coverage_at_accuracy(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray, accuracy: float) -> np.ndarray:
    """(B,) the largest share of images that a threshold on confidence lets through with at least this accuracy."""
    total = _totals(confidence, wrong, weights)
    enough = total.errors <= (1 - accuracy) * total.images + 1e-9
    return np.where(enough, total.images, 0).max(1) / weights.sum(1)


class _Totals(NamedTuple):
    """float64 (B, K + 1): images, and errors, at the k highest of the K different confidences; 0 at first."""

    images: np.ndarray
    errors: np.ndarray


def _totals(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> _Totals:
    order = np.argsort(-confidence, kind="stable")
    starts = np.flatnonzero(np.diff(confidence[order], prepend=np.inf))

    def total(values: np.ndarray) -> np.ndarray:
        return np.pad(np.cumsum(np.add.reduceat(values[:, order], starts, axis=1), axis=1), ((0, 0), (1, 0)))

    return _Totals(total(weights), total(weights * wrong))
