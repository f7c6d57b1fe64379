"""Score a network's confidence: calibration, its error, and what abstaining gains.

Temperature: one number per network, fitted on validation images, that makes probabilities match frequencies.

Calibration error: images are sorted by confidence and cut into bins of equal mass; in each, mean confidence is compared
with accuracy. Even a perfectly calibrated network shows gaps, because a bin holds few images: `noise_floor` says how
large they are.

Abstaining: coverage is the share of images that the network answers, most confident first; risk is the share of them
that it gets wrong. Images of equal confidence can't be told apart, so errors count as spread evenly over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import digamma, log_softmax

from mri.base.intervals import Estimate, estimate, resample_weights, wilson

TEMPERATURES = (0.05, 20.0)  # the range that is searched
BINS = 15
COVERAGES = (0.8, 0.9, 0.95)  # at which accuracy is reported
ACCURACIES = (0.99,)  # at which coverage is reported


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the T > 0 that minimises the negative log-likelihood of softmax(logits / T) (Guo et al. 2017).

    logits: (N, C). labels: int (N,). Dividing by T never changes which class is largest. The optimum lies outside
    TEMPERATURES only when every image is classified correctly, or none better than by chance; T then stays at a limit.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded").x))


# Calibration error ---------------------------------------------------------------------------------------------------


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, bins: int = BINS
) -> np.ndarray:
    """Return the gap between confidence and accuracy, averaged over bins of equal mass (Nixon et al. 2019).

    (B,), 0 to 1; lower is better. probabilities: (N, C). labels: int (N,). weights: (B, N), how often each image counts
    in each of B resamples.
    """
    order, starts = _equal_mass_bins(probabilities, bins)
    excess = (probabilities.argmax(1) == labels) - probabilities.max(1)
    gaps = np.add.reduceat((weights * excess)[:, order], starts, axis=1)
    return np.abs(gaps).sum(1) / weights.sum(1)


def noise_floor(probabilities: np.ndarray, draws: int = 1000, seed: int = 0, bins: int = BINS) -> dict[str, float]:
    """Return {mean, p95} of the calibration errors that a perfectly calibrated network would show.

    Its labels would follow its probabilities (N, C), so labels are drawn from them `draws` times (Bröcker & Smith
    2007). An error up to p95 is no evidence of miscalibration; differences between errors near the mean mean nothing.
    Images count as independent: with several per patient the true floor is higher.
    """
    confidence = probabilities.max(1)
    order, starts = _equal_mass_bins(probabilities, bins)
    correct = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    gaps = np.add.reduceat((correct - confidence)[:, order], starts, axis=1)
    errors = np.abs(gaps).sum(1) / len(confidence)
    return {"mean": float(errors.mean()), "p95": float(np.quantile(errors, 0.95))}


def reliability_curve(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Return a row per bin of equal mass, least confident first: confidence, accuracy, low, high, images.

    confidence: mean probability of the predicted class. accuracy: share of correct predictions, low to high its 95 %
    interval (Wilson; images count as independent). A calibrated network keeps to the diagonal.
    """
    order, starts = _equal_mass_bins(probabilities, bins)
    images = np.diff(np.append(starts, len(order)))
    confidence = np.add.reduceat(probabilities.max(1)[order], starts) / images
    correct = np.add.reduceat((probabilities.argmax(1) == labels)[order].astype(int), starts)
    shares = pd.DataFrame([wilson(int(k), int(n)) for k, n in zip(correct, images, strict=True)])
    shares = shares.rename(columns={"value": "accuracy"})
    return shares.assign(confidence=confidence, images=images)[["confidence", "accuracy", "low", "high", "images"]]


def _equal_mass_bins(probabilities: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image numbers by rising confidence, (N,), and where in them each bin starts; no more bins than images."""
    count = len(probabilities)
    order = np.argsort(probabilities.max(1), kind="stable")
    return order, np.linspace(0, count, min(bins, count) + 1).astype(int)[:-1]


# Abstaining ----------------------------------------------------------------------------------------------------------
# confidence: (N,), higher is surer. wrong: bool (N,). weights: (B, N), how often each image counts in each of B
# resamples (`mri.base.intervals.resample_weights`).


def abstaining_scores(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score how well the largest probability tells correct predictions from wrong ones, each as {value, low, high}.

    probabilities: (N, C). labels: int (N,). groups: (N,), what is resampled together.
    augrc, aurc: lower is better. accuracy_at_coverage: accuracy on the most confident share of images, by that share in
    per cent. coverage_at_accuracy: the largest share of images that is answered with this accuracy, by that accuracy in
    per cent; higher is better.
    """
    confidence, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    weights = np.concatenate([np.ones((1, len(labels))), resample_weights(groups, resamples, seed)])

    def interval(score: Callable[..., np.ndarray], *arguments: float) -> Estimate:
        values = score(confidence, wrong, weights, *arguments)
        return estimate(float(values[0]), values[1:])

    return {
        "augrc": interval(augrc),
        "aurc": interval(aurc),
        "accuracy_at_coverage": {f"{100 * share:.0f}": interval(accuracy_at_coverage, share) for share in COVERAGES},
        "coverage_at_accuracy": {f"{100 * share:.0f}": interval(coverage_at_accuracy, share) for share in ACCURACIES},
    }


def risk_coverage_curve(confidence: np.ndarray, wrong: np.ndarray) -> pd.DataFrame:
    """Return a row per confidence that occurs, highest first: confidence, coverage, risk, joint_risk.

    joint_risk: the share of all images that are covered and wrong.
    """
    totals = _totals(confidence, wrong, np.ones((1, len(wrong))))
    images, errors = totals.images[0, 1:], totals.errors[0, 1:]
    return pd.DataFrame(
        {
            "confidence": np.unique(confidence)[::-1],
            "coverage": images / len(wrong),
            "risk": errors / images,
            "joint_risk": errors / len(wrong),
        }
    )


def augrc(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the generalised risk-coverage curve (Traub et al. 2024), (B,).

    The mean joint risk over all coverages, which is the chance that of two random images the first is wrong, yet at
    least as sure as the second: with an error rate e, e^2 / 2 at best, e / 2 when confidence means nothing, and
    e - e^2 / 2 at worst (N large). Lower is better.
    """
    totals = _totals(confidence, wrong, weights)
    size, errors = np.diff(totals.images), np.diff(totals.errors)
    return (size * totals.errors[:, :-1] + errors * (size + 1) / 2).sum(1) / weights.sum(1) ** 2


def aurc(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the risk-coverage curve (Geifman & El-Yaniv 2017), (B,): the mean risk over all coverages.

    Lower is better. A few of the most confident images dominate it; prefer `augrc`.
    """
    totals = _totals(confidence, wrong, weights)
    size, errors = np.diff(totals.images), np.diff(totals.errors)
    before, errors_before = totals.images[:, :-1], totals.errors[:, :-1]
    rate = np.divide(errors, size, out=np.zeros_like(errors), where=size > 0)
    # The sum over j = 1 .. size of (errors_before + rate j) / (before + j), with digamma for the harmonic part.
    harmonic = digamma(before + size + 1) - digamma(before + 1)
    return (errors + (errors_before - rate * before) * harmonic).sum(1) / weights.sum(1)


def accuracy_at_coverage(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Return the accuracy, (B,), on the `share` of images (0 to 1) that the network is most confident about."""
    totals = _totals(confidence, wrong, weights)
    answered = share * weights.sum(1)
    rows = zip(answered, totals.images, totals.errors, strict=True)
    return 1 - np.array([np.interp(number, images, errors) for number, images, errors in rows]) / answered


def coverage_at_accuracy(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray, accuracy: float) -> np.ndarray:
    """Return the largest share of images, (B,), that a confidence threshold lets through at this accuracy or better."""
    totals = _totals(confidence, wrong, weights)
    enough = totals.errors <= (1 - accuracy) * totals.images + 1e-9
    return np.where(enough, totals.images, 0).max(1) / weights.sum(1)


class _Totals(NamedTuple):
    """Numbers of images and of errors at the k highest of K distinct confidences, float64 (B, K + 1), from k = 0."""

    images: np.ndarray
    errors: np.ndarray


def _totals(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> _Totals:
    order = np.argsort(-confidence, kind="stable")
    starts = np.flatnonzero(np.diff(confidence[order], prepend=np.inf))

    def cumulative(values: np.ndarray) -> np.ndarray:
        return np.pad(np.cumsum(np.add.reduceat(values[:, order], starts, axis=1), axis=1), ((0, 0), (1, 0)))

    return _Totals(cumulative(weights), cumulative(weights * wrong))
