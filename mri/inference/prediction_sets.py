"""Prediction sets: all classes that can't be ruled out, so that they include the true one as often as promised.

Split conformal prediction with the probability itself as score ("LAC": Sadinle, Lei & Wasserman, JASA 114, 2019),
which gives the smallest sets on average. A set holds every class whose probability reaches a threshold fitted on
validation images. The promise holds for new images of the same kind, over all classes together, on average over
validation sets; not for each class, and not for images from elsewhere. Images of one patient are not exchangeable,
patients are: so a threshold is fitted with one image of each group, averaged over all ways to draw them (Dunn,
Wasserman & Ramdas, JASA 118, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mri.base.intervals import estimate, resample_weights


def fit_threshold(probabilities: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray, alpha: float) -> float:
    """Return the least probability of a class in the set, 0 to 1, so that sets miss the true class at most `alpha`.

    probabilities: (N, C) of validation images, which the network was not trained on. labels: int (N,). groups: (N,),
    G of them, whose images count as one together. alpha: in (0, 1). Returns 0 where G < 1 / alpha - 1: so few groups
    allow no promise unless every class is in.

    Where each group has one image, the threshold is the floor(alpha (G + 1))-th smallest probability of a true class: a
    new image falls below it with probability at most alpha, averaged over validation sets. With more, a class is left
    out where the p-value of its probability, averaged over all ways to draw one image of each group, is at most alpha.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    _, member, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    true = probabilities[np.arange(len(labels)), labels]
    order = np.argsort(true, kind="stable")
    below = np.cumsum(1 / sizes[member][order])  # groups whose image has at most this probability
    # The addend corrects products such as 0.29 * 100 = 28.999...
    allowed = alpha * (len(sizes) + 1) + 1e-9
    return float(true[order][(below > allowed - 1).argmax()]) if allowed >= 1 else 0.0


def prediction_sets(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Return which classes have a probability of at least `threshold`, bool (N, C).

    A set is empty where even the largest probability is below it, which happens only with a threshold above 1 / C, when
    alpha exceeds the error rate: the network is less sure than on nearly all validation images and should abstain.
    """
    return probabilities >= threshold


def summarise(
    sets: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: list[str],
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score prediction sets on images with known labels.

    sets: bool (N, C). labels: int (N,). groups: (N,), what is resampled together.
    coverage: share of sets that hold the true class, {value, low, high} with the 95 % interval; per_class the same
    for the images of each class that occurs; by_group the mean of groups' shares, which is what is promised.
    mean_size: classes per set; smaller is better at equal coverage.
    empty, single, several: shares of sets with no class (abstain), one, and more.
    """
    weights = resample_weights(groups, resamples, seed)
    covered = sets[np.arange(len(labels)), labels]
    size = sets.sum(1)
    present = [(name, labels == i) for i, name in enumerate(classes) if (labels == i).any()]
    return {
        "coverage": _share(covered, np.ones(len(labels), bool), groups, weights),
        "by_group": _mean_of_groups(covered, groups, resamples, seed),
        "per_class": {name: _share(covered, members, groups, weights) for name, members in present},
        "mean_size": float(size.mean()),
        "empty": float((size == 0).mean()),
        "single": float((size == 1).mean()),
        "several": float((size > 1).mean()),
    }


def _mean_of_groups(covered: np.ndarray, groups: Sequence | np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """Return the mean over groups of the share of their images that are covered, with its interval over groups."""
    _, member, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    shares = np.bincount(member, weights=covered) / sizes
    weights = resample_weights(np.arange(len(shares)), resamples, seed)
    return estimate(float(shares.mean()), weights @ shares / weights.sum(1), groups=len(shares))


def _share(
    covered: np.ndarray, members: np.ndarray, groups: Sequence | np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    """Return the share of the `members` (bool, (N,)) that are covered; its interval is over resamples that have any."""
    with np.errstate(invalid="ignore"):
        samples = weights @ (covered & members) / (weights @ members)
    return estimate(float(covered[members].mean()), samples, groups=len(np.unique(np.asarray(groups)[members])))
