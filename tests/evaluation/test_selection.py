import numpy as np
import pytest

from mri.base.errors import UserError
from mri.evaluation.selection import Candidate, behind_the_best, choose


def candidate(name, score, behind_low, latency, size):
    behind = {"value": max(0.0, behind_low), "low": behind_low, "high": 0.1}
    return Candidate(name, score, behind, latency, size)


CANDIDATES = [
    candidate("accurate", 0.95, 0.0, 40.0, 90.0),
    candidate("quick", 0.94, -0.01, 5.0, 30.0),
    candidate("small", 0.93, -0.001, 9.0, 16.0),
    candidate("worse", 0.80, 0.05, 1.0, 1.0),
]


@pytest.mark.parametrize(
    ("rule", "winner"), [("fastest_of_the_best", "quick"), ("smallest_of_the_best", "small"), ("best", "accurate")]
)
def test_each_rule_picks_its_winner(rule, winner):
    assert choose(rule, CANDIDATES).name == winner


def test_unknown_rule_lists_the_legal_ones():
    with pytest.raises(
        UserError, match=r"unknown select.rule 'newest'.*fastest_of_the_best, smallest_of_the_best, best"
    ):
        choose("newest", CANDIDATES)


def test_a_clear_loser_is_distinguishable_and_a_near_twin_is_not():
    labels = np.tile(np.arange(4), 50)
    twin, loser = labels.copy(), labels.copy()
    twin[:1] = 1
    loser[::3] = (labels[::3] + 1) % 4
    points, behind = behind_the_best({"best": labels, "twin": twin, "loser": loser}, labels, np.arange(200), 4, 1000, 0)
    assert points["best"] == 1.0
    assert behind["best"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert behind["twin"]["low"] == 0.0 < behind["twin"]["high"]
    assert behind["loser"]["low"] > 0.2
