"""Choose the winner by a written rule, on validation images only.

A rule gets, per architecture, the macro-F1 on validation, whether that is distinguishable from the best architecture's
(paired bootstrap clustered by group, 95 %), and what it costs; it returns the winner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mri.base.errors import UserError
from mri.base.intervals import Estimate, estimate, resample_weights
from mri.evaluation.comparison import side_by_side
from mri.evaluation.scores import macro_f1


@dataclass(frozen=True)
class Candidate:
    """A network that may win.

    macro_f1: on validation. behind: how far behind the best, {value, low, high}. latency in ms, size in MB.
    """

    name: str
    macro_f1: float
    behind: Estimate
    latency_ms_p50: float
    size_mb: float

    @property
    def among_the_best(self) -> bool:
        """Whether it is indistinguishable from the best: the interval of the difference reaches 0."""
        return self.behind["low"] <= 0


def _fastest_of_the_best(candidates: list[Candidate]) -> Candidate:
    return min(filter(lambda c: c.among_the_best, candidates), key=lambda c: c.latency_ms_p50)


def _smallest_of_the_best(candidates: list[Candidate]) -> Candidate:
    return min(filter(lambda c: c.among_the_best, candidates), key=lambda c: c.size_mb)


def _best(candidates: list[Candidate]) -> Candidate:
    return max(candidates, key=lambda c: c.macro_f1)


RULES: dict[str, tuple[Callable[[list[Candidate]], Candidate], str]] = {
    "fastest_of_the_best": (
        _fastest_of_the_best,
        "the fastest (p50 latency of the served runtime) among those not distinguishable from the best in validation "
        "macro-F1 (paired bootstrap clustered by group, 95 %)",
    ),
    "smallest_of_the_best": (
        _smallest_of_the_best,
        "the smallest on disk among those not distinguishable from the best in validation macro-F1 "
        "(paired bootstrap clustered by group, 95 %)",
    ),
    "best": (_best, "the highest validation macro-F1, whatever it costs"),
}


def choose(rule: str, candidates: list[Candidate]) -> Candidate:
    """Return the winner by the rule of that name. Raises UserError that lists the legal names."""
    if rule not in RULES:
        raise UserError(f"unknown select.rule {rule!r}: choose from {', '.join(RULES)}")
    return RULES[rule][0](candidates)


def behind_the_best(
    predicted: dict[str, np.ndarray],
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: int,
    resamples: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, Estimate]]:
    """Return macro-F1 per model, and the best one's lead over each: value and 95 % interval, on the same resamples.

    predicted: per model its predicted classes (N,). labels: int (N,). groups: (N,), what is resampled together.
    """
    weights = np.concatenate([np.ones((1, len(labels))), resample_weights(groups, resamples, seed)])
    scores = {name: macro_f1(labels, calls, classes, weights) for name, calls in predicted.items()}
    points = {name: float(values[0]) for name, values in scores.items()}
    best = max(points, key=lambda name: points[name])
    leads = {name: scores[best] - values for name, values in scores.items()}
    return points, {name: estimate(float(lead[0]), lead[1:]) for name, lead in leads.items()}


def candidates(
    predictions: pd.DataFrame, classes: list[str], served: dict[str, dict[str, float]], resamples: int, seed: int
) -> list[Candidate]:
    """Return what a rule decides on, per model.

    predictions: of all models on validation images, below one another (column architecture). served: the costs of each
    model in the runtime that counts (latency_ms_p50, size_mb).
    """
    calls = side_by_side(predictions, classes)
    points, behind = behind_the_best(*calls, len(classes), resamples, seed)
    costs = {name: (served[name]["latency_ms_p50"], served[name]["size_mb"]) for name in points}
    return [Candidate(name, points[name], behind[name], *costs[name]) for name in points]


def explain(rule: str, winner: Candidate, candidates: list[Candidate]) -> dict[str, Any]:
    """Return the rule in words and the numbers that decided, for summary.json."""
    return {
        "rule": rule,
        "rule_text": RULES[rule][1],
        "winner": winner.name,
        "decided_by": {
            c.name: {
                "val_macro_f1": c.macro_f1,
                "behind_the_best": c.behind,
                "among_the_best": c.among_the_best,
                "latency_ms_p50": c.latency_ms_p50,
                "size_mb": c.size_mb,
            }
            for c in candidates
        },
    }
