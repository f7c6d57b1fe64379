"""Whether one map out of several networks' is better than the best single one's, and not merely by being smoother."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mri.explanation.localisation import difference, mean

# Averaging blurs, and blur alone can raise a score: so the second rival is the best of the single maps blurred alike.
LEADS = ("lead_over_best_single", "lead_over_best_single_blurred_alike")


@dataclass(frozen=True)
class Rivals:
    """One score of the consensus, of each single network, and of each one's map blurred to be as spread out.

    Arrays (N,), higher is better. weights: (B, N) of the bootstrap.
    """

    score: str
    consensus: np.ndarray
    single: dict[str, np.ndarray]
    blurred: dict[str, np.ndarray]
    weights: np.ndarray


def leads(scores: list[Rivals]) -> dict[str, Any]:
    """What metrics/details/consensus.json says of each score: the best single network, the leads over it, and the
    verdict.

    Which network is best is asked for each score by itself, on the same images, to the disadvantage of the consensus.
    beats_best_single: whether both leads have an interval above 0, the one over mere blur included.
    """
    found: dict[str, Any] = {
        "best_single": {},
        "consensus": {},
        **{name: {} for name in LEADS},
        "beats_best_single": {},
    }
    for rivals in scores:
        name = rivals.score
        found["best_single"][name] = _best(rivals.single)
        found["consensus"][name] = mean(rivals.consensus, rivals.weights)
        for lead, others in zip(LEADS, (rivals.single, rivals.blurred), strict=True):
            found[lead][name] = difference(rivals.consensus, others[_best(others)], rivals.weights)
        found["beats_best_single"][name] = all(found[lead][name]["low"] > 0 for lead in LEADS)
    return found


def _best(scores: dict[str, np.ndarray]) -> str:
    return max(scores, key=lambda name: float(scores[name].mean()))
