import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri.base.intervals import resample_weights
from mri.evaluation.confidence import (
    abstaining_scores,
    accuracy_at_coverage,
    augrc,
    aurc,
    coverage_at_accuracy,
    risk_coverage_curve,
)

ONCE = np.ones((1, 4))
RANKED = np.array([0.9, 0.8, 0.7, 0.6])
ANSWERS = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=25)


def score_of(score, confidence, wrong, *arguments):
    return float(score(np.asarray(confidence, float), np.asarray(wrong, bool), np.ones((1, len(wrong))), *arguments)[0])


def test_areas_of_four_images_are_those_of_the_hand_calculation():
    wrong = [0, 1, 0, 1]  # errors among the 1, 2, 3, 4 surest: 0, 1, 1, 2
    assert score_of(augrc, RANKED, wrong) == pytest.approx((0 + 1 + 1 + 2) / 4 / 4)
    assert score_of(aurc, RANKED, wrong) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


@pytest.mark.parametrize("error", [0.1, 0.25, 0.5])
def test_augrc_has_its_known_limits(error):
    n = 20_000
    wrong = np.arange(n) >= (1 - error) * n
    confidence = np.linspace(1, 0, n)
    shuffled = np.random.default_rng(0).permutation(n)
    assert score_of(augrc, confidence, wrong) == pytest.approx(error**2 / 2, abs=1e-4)
    assert score_of(augrc, confidence, wrong[::-1]) == pytest.approx(error - error**2 / 2, abs=1e-4)
    assert score_of(augrc, confidence[shuffled], wrong) == pytest.approx(error / 2, abs=5e-3)
    assert score_of(augrc, np.zeros(n), wrong) == pytest.approx(error / 2, abs=1e-4)


def test_a_perfect_network_has_no_area():
    assert score_of(augrc, RANKED, [0, 0, 0, 0]) == score_of(aurc, RANKED, [0, 0, 0, 0]) == 0


@given(ANSWERS)
def test_ties_count_as_the_mean_over_their_orders(answers):
    confidence = np.array([level for level, _ in answers], float)
    wrong = np.array([error for _, error in answers])
    orders = [np.lexsort((random, -confidence)) for random in np.random.default_rng(0).random((4000, len(wrong)))]
    errors = np.cumsum(wrong[orders], axis=1).mean(0)
    position = np.arange(1, len(wrong) + 1)
    assert score_of(augrc, confidence, wrong) == pytest.approx((errors / len(wrong)).mean(), abs=0.03)
    assert score_of(aurc, confidence, wrong) == pytest.approx((errors / position).mean(), abs=0.03)


@given(ANSWERS, st.integers(0, 20))
def test_a_weight_counts_as_so_many_equal_images(answers, seed):
    confidence = np.array([level for level, _ in answers], float)
    wrong = np.array([error for _, error in answers])
    weights = resample_weights(np.arange(len(wrong)), 5, seed)
    for score, arguments in ((augrc, ()), (aurc, ()), (accuracy_at_coverage, (0.7,)), (coverage_at_accuracy, (0.6,))):
        repeated = [
            score_of(score, np.repeat(confidence, w.astype(int)), np.repeat(wrong, w.astype(int)), *arguments)
            for w in weights
        ]
        np.testing.assert_allclose(score(confidence, wrong, weights, *arguments), repeated, atol=1e-12)


def test_accuracy_at_coverage_is_that_of_the_surest_images():
    assert score_of(accuracy_at_coverage, RANKED, [0, 1, 0, 1], 0.25) == 1
    assert score_of(accuracy_at_coverage, RANKED, [0, 1, 0, 1], 0.75) == pytest.approx(2 / 3)
    assert score_of(accuracy_at_coverage, RANKED, [0, 1, 0, 1], 1.0) == 0.5
    assert score_of(accuracy_at_coverage, [1, 1, 1, 1], [0, 0, 0, 1], 0.5) == 0.75  # one in four, wherever the cut is


def test_coverage_at_accuracy_is_what_a_threshold_lets_through():
    assert score_of(coverage_at_accuracy, RANKED, [0, 1, 0, 1], 0.99) == 0.25
    assert score_of(coverage_at_accuracy, RANKED, [0, 1, 0, 1], 0.66) == 0.75
    assert score_of(coverage_at_accuracy, RANKED, [1, 0, 0, 0], 0.99) == 0
    assert score_of(coverage_at_accuracy, [1, 1, 1, 0], [0, 0, 1, 0], 0.7) == 1  # three can't be parted, so not 0.5


def test_curve_has_a_row_per_confidence():
    curve = risk_coverage_curve(np.array([0.5, 0.9, 0.5, 0.7]), np.array([True, False, False, True]))
    assert curve["confidence"].tolist() == [0.9, 0.7, 0.5]
    assert curve["coverage"].tolist() == [0.25, 0.5, 1.0]
    assert curve["risk"].tolist() == [0.0, 0.5, 0.5]
    assert curve["joint_risk"].tolist() == [0.0, 0.25, 0.5]


def test_summary_holds_every_score_in_its_interval():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), 300)
    labels = np.array([random.choice(4, p=p) for p in probabilities])
    summary = abstaining_scores(probabilities, labels, np.arange(300) // 3, resamples=300)
    scores = [summary["augrc"], summary["aurc"]]
    scores += [*summary["accuracy_at_coverage"].values(), *summary["coverage_at_accuracy"].values()]
    assert list(summary["accuracy_at_coverage"]) == ["80", "90", "95"]
    assert list(summary["coverage_at_accuracy"]) == ["99"]
    for score in scores[:-1]:
        assert score["low"] < score["value"] < score["high"]
    wrong = probabilities.argmax(1) != labels
    assert summary["augrc"]["value"] == augrc(probabilities.max(1), wrong, np.ones((1, 300)))[0]
    assert summary["augrc"]["value"] < wrong.mean() / 2 < summary["aurc"]["value"]
