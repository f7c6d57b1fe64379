import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri.evaluation import answers
from mri.evaluation.confidence import fit_temperature
from mri.inference.prediction_sets import fit_threshold
from mri.inference.runtime import softmax

CLASSES = ["glioma", "notumor"]


def draws(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(n, 2))
    return logits, (logits / 2 + random.gumbel(size=(n, 2))).argmax(1), np.arange(n) // 3


def test_an_image_is_calibrated_by_groups_other_than_its_own():
    """Turning the labels of one group changes the temperature of all folds but its own."""
    logits, labels, groups = draws(90)
    turned = np.where(groups == 4, 1 - labels, labels)
    before, after = (answers.calibrate_across_folds(logits, each, groups, 0) for each in (labels, turned))
    same = (before == after).all(1)
    assert same[groups == 4].all() and len(np.unique(groups[same])) == 30 / answers.FOLDS
    everything = softmax(logits, fit_temperature(logits, labels))
    assert (before != everything).any()
    np.testing.assert_allclose(before, everything, atol=0.1)


def test_a_set_is_made_by_the_threshold_of_groups_other_than_its_own():
    logits, labels, groups = draws(90)
    probabilities = softmax(logits)
    sets = answers.sets_across_folds(probabilities, labels, groups, 0.2, 0)
    (inside, others), *_ = answers._folds(groups, 0)
    assert not set(groups[inside]) & set(groups[others])
    threshold = fit_threshold(probabilities[others], labels[others], groups[others], 0.2)
    np.testing.assert_array_equal(sets[inside], probabilities[inside] >= threshold)


def test_a_single_group_is_fitted_on_itself():
    logits, labels, _ = draws(9)
    alone = answers.calibrate_across_folds(logits, labels, np.zeros(9), 0)
    np.testing.assert_array_equal(alone, softmax(logits, fit_temperature(logits, labels)))


def test_answers_are_counted_by_class():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
    answered = np.array([True, True, False, True, False])
    scores = answers.summarise(probabilities, answered, np.array([0, 0, 0, 1, 1]), np.arange(5), CLASSES, 300)
    assert (scores["answered"]["value"], scores["right"]["value"]) == (3 / 5, pytest.approx(2 / 3))
    glioma, notumor = scores["per_class"].values()
    assert (glioma["answered"]["value"], glioma["right"]["value"]) == (pytest.approx(2 / 3), 1 / 2)
    assert (notumor["answered"]["value"], notumor["right"]["value"]) == (1 / 2, 1)


def test_nothing_is_said_of_the_answers_of_a_class_that_is_never_answered():
    silent = answers.summarise(np.eye(2), np.zeros(2, bool), np.arange(2), np.arange(2), CLASSES, 100)
    assert silent["right"] is None and silent["per_class"]["glioma"]["right"] is None
    assert silent["answered"]["value"] == 0 < silent["answered"]["high"]


def test_the_level_is_chosen_on_validation_images_that_the_gate_passes():
    """Both classes are told apart: only the gate, which stops three of ten, keeps images from being answered."""
    labels = np.arange(60) % 2
    part = (np.where(np.eye(2, dtype=bool)[labels], 0.9, 0.1), labels, np.arange(60))
    passed = {"val": np.ones(60, bool), "test": np.arange(60) % 10 >= 3}
    found = answers.answers_by_level(part, part, passed, {"80": 0.9, "90": 0.05}, CLASSES, 100, 0)
    assert found["level"] == "90" and {row["val_answered"] for row in found["at"].values()} == {1.0}
    assert [found["at"][level]["answered"]["value"] for level in ("80", "90")] == [0.7, 0.0]
    stopped = passed | {"val": np.arange(60) >= 30}
    again = answers.answers_by_level(part, part, stopped, {"80": 0.9, "90": 0.05}, CLASSES, 100, 0)
    assert {row["val_answered"] for row in again["at"].values()} == {0.5}


def test_the_highest_level_that_answers_enough_is_chosen():
    assert answers.choose_level({"85": 0.7, "90": 0.9, "92": 0.8, "95": 0.79}) == "92"
    assert answers.choose_level({"85": 0.5, "90": 0.7, "92": 0.7, "95": 0.1}) == "92"


@given(st.dictionaries(st.sampled_from(["80", "85", "90", "95", "99"]), st.floats(0, 1), min_size=1))
def test_the_level_answers_enough_or_most(shares):
    level = answers.choose_level(shares)
    assert shares[level] >= 0.8 or shares[level] == max(shares.values())
    assert not any(share >= 0.8 for other, share in shares.items() if float(other) > float(level))
