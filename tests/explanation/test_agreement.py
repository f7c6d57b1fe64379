import numpy as np
import pytest

from mri.explanation.agreement import Rivals, leads

WEIGHTS = np.ones((10, 4))  # every resample is the sample itself


def rivals(score, consensus, single, blurred):
    def scores(values):
        return {name: np.full(4, value) for name, value in values.items()}

    return Rivals(score, np.full(4, consensus), scores(single), scores(blurred), WEIGHTS)


def test_each_score_has_its_own_best_network():
    result = leads(
        [
            rivals("rma", 0.5, {"a": 0.3, "b": 0.2}, {"a": 0.4, "b": 0.9}),
            rivals("rra", 0.5, {"a": 0.3, "b": 0.6}, {"a": 0.1, "b": 0.7}),
        ]
    )
    assert result["best_single"] == {"rma": "a", "rra": "b"}
    assert result["lead_over_best_single"]["rma"]["value"] == pytest.approx(0.2)
    assert result["lead_over_best_single"]["rra"]["value"] == pytest.approx(-0.1)
    assert result["lead_over_best_single_blurred_alike"]["rma"]["value"] == pytest.approx(-0.4)  # over b's, the best
    assert result["consensus"]["rma"]["value"] == 0.5
    assert result["beats_best_single"] == {"rma": False, "rra": False}


def test_the_consensus_beats_single_networks_when_it_leads_over_every_map_and_every_blurred_one():
    result = leads([rivals("rma", 0.5, {"a": 0.3, "b": 0.2}, {"a": 0.4, "b": 0.3})])
    assert result["beats_best_single"] == {"rma": True}


def test_a_lead_that_blur_explains_does_not_count():
    result = leads([rivals("rma", 0.5, {"a": 0.3}, {"a": 0.6})])
    assert result["lead_over_best_single"]["rma"]["distinguishable"] and not result["beats_best_single"]["rma"]


def test_a_lead_whose_interval_holds_zero_does_not_count():
    weights = np.eye(4)  # resamples that disagree
    consensus, other = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])
    result = leads([Rivals("rma", consensus, {"a": other}, {"a": other}, weights)])
    assert result["lead_over_best_single"]["rma"]["value"] == 0.5 and not result["beats_best_single"]["rma"]
