"""Compare models on the same test images: which one is better, if that can be told at all.

If two models are equal, it is a matter of chance which of them made which predictions of a group of related images. So
the predictions of whole groups are swapped between the two, in every way where the groups that differ are few, else at
random (permutation test; Good, Permutation Tests, 2000). Images of one patient count as one piece of evidence, and no
distribution is assumed. A model is called better if the test says so after Holm's correction over all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mri.base.intervals import Estimate, estimate, resample_weights
from mri.evaluation.scores import confusion, mean_f1, share_right

NOT_DISTINGUISHABLE = "not distinguishable"
SWAPS = 1 << 13  # of groups: all of them where no more than 13 groups differ, else as many at random


# Take confusion matrices, (B, C, C), and return (B,); higher is better.
SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"accuracy": share_right, "macro_f1": mean_f1}


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    difference: score of the first minus that of the second, and its 95 % interval (for this pair alone).
    only_first_right, only_second_right: how many images only one of them classifies correctly.
    groups: how many groups have an image that the two classify differently.
    p_value: two-sided, of `swap_test`, corrected for the number of pairs.
    verdict: "NAME better", or "not distinguishable".
    """

    first: str
    second: str
    difference: Estimate
    only_first_right: int
    only_second_right: int
    groups: int
    p_value: float
    verdict: str


class Calls(NamedTuple):
    """What several models call the same N images. predicted: {name: int (N,)}. labels: int (N,). groups: (N,)."""

    predicted: dict[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray


def side_by_side(predictions: pd.DataFrame, classes: list[str]) -> Calls:
    """Return the calls of all models in a table with their predictions below one another (column architecture)."""
    tables = dict(list(predictions.groupby("architecture", sort=False)))
    first = next(iter(tables.values()))
    predicted = {name: table["predicted"].map(classes.index).to_numpy() for name, table in tables.items()}
    return Calls(predicted, first["label"].map(classes.index).to_numpy(), first["group"].to_numpy())


def compare_predictions(
    predictions: pd.DataFrame, classes: list[str], score: str, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Compare every pair of models in a table of predictions, as `compare` does; a dict per pair."""
    calls = side_by_side(predictions, classes)
    return [asdict(pair) for pair in compare(*calls, len(classes), score, resamples, seed)]


def compare(
    predicted: dict[str, np.ndarray],
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: int,
    score: str = "accuracy",
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
) -> list[Comparison]:
    """Compare every pair of models, in the order of `predicted`.

    predicted: per model its predicted classes (N,). labels: int (N,). groups: (N,), what is resampled and swapped
    together. score: a key of SCORES. alpha: the chance of calling any pair of equal models different.
    """
    pairs = list(combinations(predicted, 2))
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    each = np.eye(len(names))[:, member]
    weights = np.concatenate([np.ones((1, len(labels))), resample_weights(groups, resamples, seed)])
    matrices = {name: confusion(labels, calls, classes, weights) for name, calls in predicted.items()}
    by_group = {name: confusion(labels, calls, classes, each) for name, calls in predicted.items()}
    correct = {name: calls == labels for name, calls in predicted.items()}
    compute = SCORES[score]
    p_values = holm([swap_test(by_group[a], by_group[b], compute, seed) for a, b in pairs])
    rows = []
    for (a, b), p_value in zip(pairs, p_values, strict=True):
        lead = compute(matrices[a]) - compute(matrices[b])
        row = Comparison(
            a,
            b,
            estimate(float(lead[0]), lead[1:]),
            int((correct[a] & ~correct[b]).sum()),
            int((correct[b] & ~correct[a]).sum()),
            len(np.unique(member[predicted[a] != predicted[b]])),
            float(p_value),
            _verdict((a, b), float(lead[0]), p_value < alpha),
        )
        rows.append(row)
    return rows


def compare_values(
    values: dict[str, np.ndarray],
    groups: Sequence | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
) -> list[dict[str, Any]]:
    """Compare every pair of models by a score of single images, higher is better, on the images where both have one.

    values: per model (N,), NaN where it has none. groups: (N,), what is resampled and swapped together.
    Returns {first, second, n, difference, p_value, verdict} per pair, p-values corrected as in `compare`; without the
    last three where no image is shared.
    """
    groups = np.asarray(groups)
    rows: list[dict[str, Any]] = []
    p_values: dict[int, float] = {}
    for pair in combinations(values, 2):
        lead = values[pair[0]] - values[pair[1]]
        both = np.isfinite(lead)
        row: dict[str, Any] = {"first": pair[0], "second": pair[1], "n": int(both.sum())}
        if both.any():
            weights = resample_weights(groups[both], resamples, seed)
            with np.errstate(invalid="ignore"):  # all images of one group
                samples = weights @ lead[both] / weights.sum(1)
            row["difference"] = estimate(float(lead[both].mean()), samples)
            _, member = np.unique(groups[both], return_inverse=True)
            p_values[len(rows)] = sign_flip_test(np.bincount(member, lead[both]), seed)
        rows.append(row)
    for (i, _), p_value in zip(p_values.items(), holm(list(p_values.values())), strict=True):
        pair, lead = (rows[i]["first"], rows[i]["second"]), rows[i]["difference"]["value"]
        rows[i] |= {"p_value": float(p_value), "verdict": _verdict(pair, lead, p_value < alpha)}
    return rows


def _verdict(pair: tuple[str, str], lead: float, distinguishable: bool) -> str:
    if not distinguishable:
        return NOT_DISTINGUISHABLE
    return f"{pair[0] if lead > 0 else pair[1]} better"


def swap_test(first: np.ndarray, second: np.ndarray, score: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> float:
    """Return the two-sided p-value of "the models are equal", from swapping their predictions of whole groups.

    first, second: (G, C, C), the models' confusion matrices of each group. score: of matrices (B, C, C), (B,).
    """
    differ = (first != second).any(axis=(1, 2))
    moves = (second - first)[differ].reshape(int(differ.sum()), first[0].size)
    moved = (_swaps(len(moves), seed) @ moves).reshape(-1, *first.shape[1:])
    return _share_as_extreme(score(first.sum(0) + moved) - score(second.sum(0) - moved))


def sign_flip_test(totals: np.ndarray, seed: int = 0) -> float:
    """Return the two-sided p-value of "the models are equal" for a score that is a mean over images.

    totals: (G,), the sum over each group's images of the first model's lead.
    """
    totals = totals[totals != 0]
    return _share_as_extreme((1 - 2 * _swaps(len(totals), seed)) @ totals)


def _swaps(groups: int, seed: int) -> np.ndarray:
    """Return which groups are swapped, 0 or 1, float64 (B, G): first none; every way once where there are few ways."""
    if 1 << groups <= SWAPS:
        return ((np.arange(1 << groups)[:, None] >> np.arange(groups)) & 1).astype(np.float64)
    swaps = np.random.default_rng(seed).integers(0, 2, (SWAPS, groups)).astype(np.float64)
    swaps[0] = 0
    return swaps


def _share_as_extreme(differences: np.ndarray) -> float:
    """Return the share of differences, (B,), that are as far from 0 as the first, which is the one observed."""
    sizes = np.abs(differences)
    return float((sizes >= sizes[0] - 1e-12).mean())


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values corrected for K tests (Holm, Scand J Stat 6:65, 1979), float64 (K,), in the order given.

    If those below alpha are called significant, the chance of any false positive is at most alpha.
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1)
    return corrected
