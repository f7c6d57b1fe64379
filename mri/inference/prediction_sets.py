"""Prediction sets: all classes that can't be ruled out, so that they include the true one as often as promised.

Split conformal prediction with the probability itself as score ("LAC": Sadinle, Lei & Wasserman, JASA 114, 2019),
which gives the smallest sets on average. A set holds every class whose probability reaches a threshold fitted on
validation images. The promise holds for new images of the same kind, over all classes together, on average over
validation sets; not for each class, and not for images from elsewhere. Images of one patient are not exchangeable,
so with many images per patient coverage varies more than the number of images suggests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mri.base.intervals import estimate, resample_weights


def fit_threshold(probabilities: np.ndarray, labels: np.ndarray, alpha: float) -> float:
    """Return the least probability of a class in the set, 0 to 1, so that sets miss the true class at most `alpha`.

    probabilities: (N, C) of validation images, which the network was not trained on. labels: int (N,).
    alpha: in (0, 1). Returns 0 where N < 1 / alpha - 1: so few images allow no promise unless every class is in.

    The threshold is the floor(alpha (N + 1))-th smallest probability of a true class: a new image falls below it with
    probability at most alpha, averaged over validation sets.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    true = np.sort(probabilities[np.arange(len(labels)), labels])
    # The addend corrects products such as 0.29 * 100 = 28.999...
    rank = math.floor(alpha * (len(labels) + 1) + 1e-9)
    return float(true[rank - 1]) if rank else 0.0


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
    for the images of each class that occurs. mean_size: classes per set; smaller is better at equal coverage.
    empty, single, several: shares of sets with no class (abstain), one, and more.
    """
    weights = resample_weights(groups, resamples, seed)
    covered = sets[np.arange(len(labels)), labels]
    size = sets.sum(1)
    present = [(name, labels == i) for i, name in enumerate(classes) if (labels == i).any()]
    return {
        "coverage": _share(covered, np.ones(len(labels), bool), groups, weights),
        "per_class": {name: _share(covered, members, groups, weights) for name, members in present},
        "mean_size": float(size.mean()),
        "empty": float((size == 0).mean()),
        "single": float((size == 1).mean()),
        "several": float((size > 1).mean()),
    }


def _share(
    covered: np.ndarray, members: np.ndarray, groups: Sequence | np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    """Return the share of the `members` (bool, (N,)) that are covered; its interval is over resamples that have any."""
    with np.errstate(invalid="ignore"):
        samples = weights @ (covered & members) / (weights @ members)
    return estimate(float(covered[members].mean()), samples, groups=len(np.unique(np.asarray(groups)[members])))
