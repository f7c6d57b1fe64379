"""Compare models on the same test images: which one is better, if that can be told at all.

Two tests per pair, because each is too lenient where the other is strict: McNemar's takes images for independent,
though those of one patient are not; the bootstrap clustered by group is unreliable when the models differ on a handful
of images. A model is called better only when both tests say so after Holm's correction over all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from mri.base.intervals import Estimate, estimate, resample_weights
from mri.evaluation.scores import accuracy, macro_f1

NOT_DISTINGUISHABLE = "not distinguishable"


# Take labels (N,), predicted classes (N,), the number of classes and weights (B, N); return (B,), higher is better.
SCORES: dict[str, Callable[[np.ndarray, np.ndarray, int, np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
}


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    difference: score of the first minus that of the second, and its 95 % interval (for this pair alone).
    only_first_right, only_second_right: how many images only one of them classifies correctly.
    p_mcnemar, p_bootstrap: two-sided, corrected for the number of pairs.
    verdict: "NAME better", or "not distinguishable".
    """

    first: str
    second: str
    difference: Estimate
    only_first_right: int
    only_second_right: int
    p_mcnemar: float
    p_bootstrap: float
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
    """Compare every pair of models, in the order of `predicted`, all on the same resamples.

    predicted: per model its predicted classes (N,). labels: int (N,). groups: (N,), what is resampled together.
    score: a key of SCORES; McNemar's test is about accuracy whatever the score. alpha: the chance of calling any pair
    of equal models different.
    """
    pairs = list(combinations(predicted, 2))
    weights = np.concatenate([np.ones((1, len(labels))), resample_weights(groups, resamples, seed)])
    scores = {name: SCORES[score](labels, calls, classes, weights) for name, calls in predicted.items()}
    correct = {name: calls == labels for name, calls in predicted.items()}
    leads = [scores[first] - scores[second] for first, second in pairs]
    discordant = [(int((correct[a] & ~correct[b]).sum()), int((correct[b] & ~correct[a]).sum())) for a, b in pairs]
    p_mcnemar = holm([mcnemar(*counts) for counts in discordant])
    p_bootstrap = holm([bootstrap_p_value(lead[1:]) for lead in leads])
    return [
        Comparison(
            *pair,
            estimate(float(lead[0]), lead[1:]),
            *counts,
            float(exact),
            float(resampled),
            _verdict(pair, float(lead[0]), max(exact, resampled) < alpha),
        )
        for pair, lead, counts, exact, resampled in zip(pairs, leads, discordant, p_mcnemar, p_bootstrap, strict=True)
    ]


def compare_values(
    values: dict[str, np.ndarray],
    groups: Sequence | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
) -> list[dict[str, Any]]:
    """Compare every pair of models by a score of single images, higher is better, on the images where both have one.

    values: per model (N,), NaN where it has none. groups: (N,), what is resampled together.
    Returns {first, second, n, difference, p_bootstrap, verdict} per pair, p-values corrected as in `compare`; without
    the last three where no image is shared.
    """
    groups = np.asarray(groups)
    rows: list[dict[str, Any]] = []
    samples: dict[int, tuple[float, np.ndarray]] = {}
    for pair in combinations(values, 2):
        lead = values[pair[0]] - values[pair[1]]
        both = np.isfinite(lead)
        rows.append({"first": pair[0], "second": pair[1], "n": int(both.sum())})
        if both.any():
            weights = resample_weights(groups[both], resamples, seed)
            samples[len(rows) - 1] = (float(lead[both].mean()), weights @ lead[both] / weights.sum(1))
    corrected = holm([bootstrap_p_value(resampled) for _, resampled in samples.values()])
    for (i, (lead, resampled)), p_value in zip(samples.items(), corrected, strict=True):
        rows[i] |= {
            "difference": estimate(lead, resampled),
            "p_bootstrap": float(p_value),
            "verdict": _verdict((rows[i]["first"], rows[i]["second"]), lead, p_value < alpha),
        }
    return rows


def _verdict(pair: tuple[str, str], lead: float, distinguishable: bool) -> str:
    if not distinguishable:
        return NOT_DISTINGUISHABLE
    return f"{pair[0] if lead > 0 else pair[1]} better"


def mcnemar(only_first_right: int, only_second_right: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (Psychometrika 12:153, 1947).

    If the models are equal, each image on which only one is correct is the toss of a fair coin. Images count as
    independent. 1 when there is no such image.
    """
    discordant = only_first_right + only_second_right
    return float(binomtest(only_first_right, discordant).pvalue) if discordant else 1.0


def bootstrap_p_value(differences: np.ndarray) -> float:
    """Return the two-sided p-value of "no difference": twice the share of resampled differences on the rarer side of 0.

    differences: (B,). One is added to both counts (Davison & Hinkley 1997), so it never falls below 2 / (B + 1).
    Differences of 0 count for both sides; NaN, where a score is undefined on a resample, for neither.
    """
    differences = differences[np.isfinite(differences)]
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values corrected for K tests (Holm, Scand J Stat 6:65, 1979), float64 (K,), in the order given.

    If those below alpha are called significant, the chance of any false positive is at most alpha.
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1)
    return corrected
