"""Choose the winner by a written rule, on validation images only.

A network is eligible when it is not inferior to the best one by more than a margin, in macro-F1 and in its worst group.
Of the eligible ones, those whose latency can't be told from the fastest one's are equally fast, and of them the one
with the highest macro-F1 wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mri.base.intervals import Estimate, estimate, resample_weights
from mri.base.params import Select
from mri.evaluation.comparison import Calls, side_by_side
from mri.evaluation.scores import macro_f1
from mri.evaluation.subgroups import LEAST_GROUPS, LEAST_IMAGES, ORIGINS

# Takes predicted classes (N,), returns a score per resample (B,).
Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """A network that may win.

    macro_f1, worst_group: on validation; worst_group is the lowest recall of a class in a series or source, None where
    no group is large enough. behind, worst_group_behind: how far behind the network with the highest macro-F1, {value,
    low, high}. latency in ms, size in MB.
    """

    name: str
    macro_f1: float
    behind: Estimate
    worst_group: float | None
    worst_group_behind: Estimate | None
    latency_ms_p50: float
    size_mb: float

    def eligible(self, rule: Select) -> bool:
        """Return whether the intervals rule out that it is worse than the best by more than the margins."""
        worst = self.worst_group_behind
        not_worse = worst is None or worst["high"] <= rule.worst_group_margin
        return self.behind["high"] <= rule.margin and not_worse


def choose(rule: Select, candidates: list[Candidate]) -> Candidate:
    """Return the winner. The network with the highest macro-F1 is always eligible, so there is one."""
    return max(fastest(rule, candidates), key=lambda candidate: candidate.macro_f1)


def fastest(rule: Select, candidates: list[Candidate]) -> list[Candidate]:
    """Return the eligible candidates in the smallest latency class: within rule.tolerance of the fastest of them."""
    eligible = [candidate for candidate in candidates if candidate.eligible(rule)]
    limit = min(candidate.latency_ms_p50 for candidate in eligible) * (1 + rule.tolerance)
    return [candidate for candidate in eligible if candidate.latency_ms_p50 <= limit]


def candidates(
    predictions: pd.DataFrame, classes: list[str], served: dict[str, dict[str, float]], resamples: int, seed: int
) -> list[Candidate]:
    """Return what the rule decides on, per model.

    predictions: of all models on validation images, below one another (column architecture). served: the costs of each
    model in the runtime that counts (latency_ms_p50, size_mb).
    """
    calls = side_by_side(predictions, classes)
    weights = np.concatenate([np.ones((1, len(calls.labels))), resample_weights(calls.groups, resamples, seed)])
    points, behind = _behind(calls, lambda called: macro_f1(calls.labels, called, len(classes), weights))
    best = max(points, key=lambda name: points[name])
    first = predictions[predictions["architecture"] == best]
    cells = list(large_cells(first).values())
    worst, worst_behind = _behind(calls, lambda called: _lowest_recall(called, calls.labels, cells, weights), best)
    return [
        Candidate(
            name,
            points[name],
            behind[name],
            worst[name] if cells else None,
            worst_behind[name] if cells else None,
            served[name]["latency_ms_p50"],
            served[name]["size_mb"],
        )
        for name in points
    ]


def _behind(calls: Calls, score: Score, best: str = "") -> tuple[dict[str, float], dict[str, Estimate]]:
    """Return a score per model, and the lead of `best` (by default, of the highest) over each, on the same resamples.

    score: its first value is that of all images, the others are those of resamples.
    """
    scores = {name: score(called) for name, called in calls.predicted.items()}
    points = {name: float(values[0]) for name, values in scores.items()}
    best = best or max(points, key=lambda name: points[name])
    leads = {name: scores[best] - values for name, values in scores.items()}
    return points, {name: estimate(float(lead[0]), lead[1:]) for name, lead in leads.items()}


def large_cells(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return which images, bool (N,), belong to each class x series and class x source of enough images and groups.

    table: columns label, group, and those of ORIGINS that are known ("" for an unknown value).
    """
    cells = {}
    for column in (name for name in ORIGINS if name in table):
        for (label, origin), members in table.groupby(["label", column], sort=True):
            if origin != "" and len(members) >= LEAST_IMAGES and members["group"].nunique() >= LEAST_GROUPS:
                cells[f"{label}, {column} {origin}"] = table.index.isin(members.index)
    return cells


def _lowest_recall(called: np.ndarray, labels: np.ndarray, cells: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the lowest recall of any cell, (B,); NaN where there is none. weights: (B, N)."""
    right = called == labels
    with np.errstate(invalid="ignore"):
        recalls = [weights @ (right & cell) / (weights @ cell) for cell in cells]
    return np.nanmin(recalls, axis=0) if cells else np.full(len(weights), np.nan)


def in_words(rule: Select) -> str:
    """Return the rule as part of a sentence."""
    return (
        f"the highest validation macro-F1 among the fastest (p50 latencies within {rule.tolerance:.0%} of the fastest "
        "count as equal) of the networks that are not inferior to the best: the 95 % interval of their distance, "
        f"clustered by group, ends within {rule.margin:g} in macro-F1 and within {rule.worst_group_margin:g} in the "
        "recall of the worst class in a series or source"
    )


def explain(rule: Select, winner: Candidate, candidates: list[Candidate]) -> dict[str, Any]:
    """Return the rule in words and the numbers that decided, for summary.json."""
    equal = {candidate.name for candidate in fastest(rule, candidates)}
    return {
        "rule_text": in_words(rule),
        "winner": winner.name,
        "decided_by": {
            c.name: {
                "val_macro_f1": c.macro_f1,
                "behind_the_best": c.behind,
                "val_worst_group": c.worst_group,
                "worst_group_behind_the_best": c.worst_group_behind,
                "eligible": c.eligible(rule),
                "latency_ms_p50": c.latency_ms_p50,
                "among_the_fastest": c.name in equal,
                "size_mb": c.size_mb,
            }
            for c in candidates
        },
    }
