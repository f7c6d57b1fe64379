"""Score what a network answers: the share of images that it doesn't abstain from, and how often it is right there.

Temperature, thresholds, gate and the choice of a level are all fitted on validation images. What is said about these
same images is cross-fitted: by numbers that other groups gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mri.base.intervals import Estimate, estimate, resample_weights
from mri.evaluation.confidence import fit_temperature
from mri.inference.prediction_sets import fit_threshold, prediction_sets
from mri.inference.runtime import softmax

FOLDS = 5
# The share of images like the training images that a service has to answer at its default level.
ANSWERED = 0.8


def calibrate_across_folds(
    logits: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray, seed: int
) -> np.ndarray:
    """Return probabilities, float64 (N, C), of logits (N, C), each by the temperature that other folds' groups gave."""
    probabilities = np.empty(logits.shape)
    for inside, others in _folds(groups, seed):
        probabilities[inside] = softmax(logits[inside], fit_temperature(logits[others], labels[others]))
    return probabilities


def sets_across_folds(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray, alpha: float, seed: int
) -> np.ndarray:
    """Return prediction sets, bool (N, C), each by the threshold that other folds' groups gave.

    probabilities: (N, C), from `calibrate_across_folds` with the same seed. alpha: as in `fit_threshold`.
    """
    groups, sets = np.asarray(groups), np.empty(probabilities.shape, bool)
    for inside, others in _folds(groups, seed):
        threshold = fit_threshold(probabilities[others], labels[others], groups[others], alpha)
        sets[inside] = prediction_sets(probabilities[inside], threshold)
    return sets


def _folds(groups: Sequence | np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of masks, bool (N,): the images of a fold, which holds whole groups, and all others.

    Fewer than FOLDS where there are fewer groups; of a single group, that group twice.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(names)) % FOLDS)[member]
    if len(names) == 1:
        return [(fold == 0, fold == 0)]
    return [(fold == number, fold != number) for number in np.unique(fold)]


def summarise(
    probabilities: np.ndarray,
    answered: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: list[str],
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score answers: {answered, right, per_class: {class: {answered, right}}}, each {value, low, high}.

    probabilities: (N, C). answered: bool (N,), a single class in the set, and passed by the gate. labels: int (N,).
    groups: (N,), what is resampled together. answered: share of images; right: share of the answered ones whose most
    probable class is the true one, None where nothing is answered. per_class: of the images of each class that occurs.
    """
    weights, right = resample_weights(groups, resamples, seed), probabilities.argmax(1) == labels
    everything = np.ones(len(labels), bool)

    def shares(members: np.ndarray) -> dict[str, Estimate | None]:
        return {
            "answered": _share(answered, members, groups, weights),
            "right": _share(right, members & answered, groups, weights),
        }

    present = [(name, labels == i) for i, name in enumerate(classes) if (labels == i).any()]
    return shares(everything) | {"per_class": {name: shares(members) for name, members in present}}


def _share(
    hits: np.ndarray, members: np.ndarray, groups: Sequence | np.ndarray, weights: np.ndarray
) -> Estimate | None:
    """Return the share of the `members`, bool (N,), that are hits; its interval is over resamples that have any."""
    if not members.any():
        return None
    with np.errstate(invalid="ignore"):
        samples = weights @ (hits & members) / (weights @ members)
    return estimate(float(hits[members].mean()), samples, groups=len(np.unique(np.asarray(groups)[members])))


def answers_by_level(
    val: tuple[np.ndarray, np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray, np.ndarray],
    passed: dict[str, np.ndarray],
    thresholds: dict[str, float],
    classes: list[str],
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Choose a level of coverage on validation images, and return what is answered on test images at every level.

    val, test: probabilities (N, C), labels int (N,) and groups (N,); those of `val` from `calibrate_across_folds` with
    the same seed. passed: bool (N,), by the gate, of the images of "val" and "test". thresholds: of test images' sets,
    by level. Returns {level, at: {level: {val_answered, ...}}}: the share of validation images, cross-fitted, by which
    the level is chosen, and what `summarise` returns of test images.
    """
    levels = {}
    for level, threshold in thresholds.items():
        single = sets_across_folds(*val, 1 - float(level) / 100, seed).sum(1) == 1
        answered = (prediction_sets(test[0], threshold).sum(1) == 1) & passed["test"]
        scores = summarise(test[0], answered, *test[1:], classes, resamples, seed)
        levels[level] = {"val_answered": float((single & passed["val"]).mean()), **scores}
    return {"level": choose_level({name: row["val_answered"] for name, row in levels.items()}), "at": levels}


def choose_level(answered: dict[str, float]) -> str:
    """Return the highest level at which at least ANSWERED of validation images are answered.

    answered: share of validation images, cross-fitted, by level ("90", "95": the coverage that is promised, in per
    cent). Where no level reaches ANSWERED, the one that answers most; of equal ones the highest.
    """
    enough = [level for level, share in answered.items() if share >= ANSWERED]
    return max(enough, key=float) if enough else max(answered, key=lambda level: (answered[level], float(level)))
