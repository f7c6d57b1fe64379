"""What a packaged network's explanation maps are worth: how often they pointed to the tumour on unseen patients."""

from __future__ import annotations

from typing import Any, NamedTuple

VERDICTS = {"passed": True, "failed": False}  # of the randomisation test; "undecided" is neither


class MapWorth(NamedTuple):
    """The pointing game (Zhang et al. 2018) and the randomisation test (Adebayo et al. 2018) of one method.

    hit_rate: share of outlined tumours of unseen patients that hold the map's strongest point, 0 to 1. chance: the same
    for a random point. n: number of those tumours. passed_randomisation: whether maps of networks with random weights
    differ from it; None where that wasn't tested or can't be told yet.
    """

    hit_rate: float
    chance: float
    n: int
    passed_randomisation: bool | None


def map_worth(explained: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {method: the fields of `MapWorth`} out of the explain stage's metrics; {} where nothing was outlined."""
    tested = explained.get("faithfulness", {}).get("methods", {})
    return {
        method: MapWorth(
            scores["pointing_game"]["value"],
            scores["pointing_game"]["chance"],
            explained["n"],
            VERDICTS.get(tested.get(method, {}).get("randomisation", {}).get("verdict")),
        )._asdict()
        for method, scores in explained["methods"].items()
        if "pointing_game" in scores
    }


def worth_on(card: dict[str, Any], method: str) -> MapWorth | None:
    """Return what a card says of a method's maps; None where that wasn't measured."""
    figures = card.get("maps", {}).get(method)
    return MapWorth(**figures) if figures else None
