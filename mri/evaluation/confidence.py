"""What a network's confidence is worth: calibration, its error, and what abstaining gains.

Temperature: one number per network, fitted on validation images, makes probabilities mean what they say.

Calibration error: images are sorted by confidence and cut into bins of equal mass; in each, mean confidence is held
against accuracy. Even a perfectly calibrated network shows gaps, because a bin holds few images: `noise_floor` says how
large ones.

Abstaining: coverage is the share of images that the network answers, most confident first; risk is the share wrong
among them. Images of equal confidence can't be told apart, so errors count as spread evenly over them. There,
confidence: (N,), higher is surer; wrong: bool (N,); weights: (B, N), how often each image counts in each of B
resamples (`mri.base.intervals.resample_weights`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import digamma, log_softmax

from mri.base.intervals import estimate, resample_weights, wilson

LIMITS = (0.05, 20.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T > 0 that minimises the negative log-likelihood of softmax(logits / T) (Guo et al. 2017).

    logits: (N, C). labels: int (N,). Dividing by T never changes which class is largest. T stays within LIMITS, which
    it would leave only when every image is classified rightly (or no better than by chance).
    """

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=tuple(np.log(LIMITS)), method="bounded").x))


BINS = 15


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, bins: int = BINS
) -> np.ndarray:
    """(B,) gap between confidence and accuracy, averaged over `bins` bins of equal mass (Nixon et al. 2019); 0 to 1.

    probabilities: (N, C). labels: int (N,). weights: (B, N), how often each image counts in each of B resamples.
    """
    order, starts = _equal_mass_bins(probabilities, bins)
    excess = (probabilities.argmax(1) == labels) - probabilities.max(1)
    gaps = np.add.reduceat((weights * excess)[:, order], starts, axis=1)
    return np.abs(gaps).sum(1) / weights.sum(1)


def noise_floor(probabilities: np.ndarray, draws: int = 1000, seed: int = 0, bins: int = BINS) -> dict[str, float]:
    """{mean, p95}: the calibration error that a perfectly calibrated network shows, and its 95th percentile.

    Perfectly calibrated is one whose labels are drawn from its probabilities (N, C); they are, `draws` times (Bröcker &
    Smith 2007). An error up to p95 is no evidence of miscalibration; differences between errors near the mean say
    nothing. Images count as independent: with several per patient the true floor is higher.
    """
    confidence = probabilities.max(1)
    order, starts = _equal_mass_bins(probabilities, bins)
    right = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    gaps = np.add.reduceat((right - confidence)[:, order], starts, axis=1)
    errors = np.abs(gaps).sum(1) / len(confidence)
    return {"mean": float(errors.mean()), "p95": float(np.quantile(errors, 0.95))}


def reliability_curve(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """One row per bin of equal mass, from the least confident: confidence, accuracy, low, high, images.

    confidence: mean probability of the called class. accuracy: share called rightly, low to high its 95 % interval
    (Wilson; images count as independent). A calibrated network keeps to the diagonal.
    """
    order, starts = _equal_mass_bins(probabilities, bins)
    images = np.diff(np.append(starts, len(order)))
    confidence = np.add.reduceat(probabilities.max(1)[order], starts) / images
    right = np.add.reduceat((probabilities.argmax(1) == labels)[order].astype(int), starts)
    shares = pd.DataFrame([wilson(int(k), int(n)) for k, n in zip(right, images, strict=True)])
    shares = shares.rename(columns={"value": "accuracy"})
    return shares.assign(confidence=confidence, images=images)[["confidence", "accuracy", "low", "high", "images"]]


def _equal_mass_bins(probabilities: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Image numbers by rising confidence, (N,), and where in them each bin starts; no more bins than images."""
    count = len(probabilities)
    order = np.argsort(probabilities.max(1), kind="stable")
    return order, np.linspace(0, count, min(bins, count) + 1).astype(int)[:-1]


COVERAGES = (0.8, 0.9, 0.95)
ACCURACIES = (0.99,)


def abstaining_scores(
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
