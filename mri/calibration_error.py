"""How far a network's confidence is from its accuracy, and how much of that is mere chance.

Images are sorted by confidence and cut into bins of equal mass; in each, mean confidence is held against accuracy.
Even a perfectly calibrated network shows gaps, because a bin holds few images: `noise_floor` says how large ones.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mri.intervals import wilson

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
