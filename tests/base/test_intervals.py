import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logit

from mri.base.intervals import estimate, estimate_difference, estimate_mean, resample_weights, value, wilson


@given(groups=st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_each_resample_leaves_out_one_whole_group(groups):
    weights = resample_weights(groups, 100, 0)
    left_out = [set(np.array(groups)[row == 0]) for row in weights]
    assert all(len(labels) == 1 for labels in left_out) and set().union(*left_out) == set(groups)
    assert len(weights) == len(set(groups)) and (weights.sum(0) == len(weights) - 1).all()


def test_more_groups_than_resamples_are_left_out_several_at_a_time():
    groups = np.repeat(np.arange(1000), 2)
    weights = resample_weights(groups, 100, 0)
    assert weights.shape == (100, 2000) and (weights.sum(0) == 99).all()
    assert ((weights == 0).sum(1) == 20).all() and (weights[:, ::2] == weights[:, 1::2]).all()
    right = (np.arange(2000) % 10 < 8).astype(float)
    few, all_of_them = (estimate_mean(right, resample_weights(groups, most, 0)) for most in (100, 1000))
    assert few["high"] - few["low"] == pytest.approx(all_of_them["high"] - all_of_them["low"], rel=0.3)


def test_an_interval_without_bounds_is_students_t_of_the_group_means():
    values = np.array([3.0, 5.0, 8.0, 4.0, 6.0]) - 10
    score = estimate_mean(values, resample_weights(np.arange(5), 100, 0))
    error = values.std(ddof=1) / np.sqrt(5)
    apart = (values - values.mean()) ** 2
    freedom = (3.16 - 2.77 / np.sqrt(5)) * apart.sum() ** 2 / (apart**2).sum()
    half = stats.t.ppf(0.975, min(freedom, 4)) * error
    assert score == pytest.approx({"value": -4.8, "low": -4.8 - half, "high": -4.8 + half})


def test_a_share_stays_within_0_and_1_and_images_of_one_patient_widen_it():
    right = np.repeat([1, 0], [94, 6]).astype(float)
    alone, patients = (estimate_mean(right, resample_weights(np.arange(100) // n, 100, 0)) for n in (1, 10))
    assert 0 < patients["low"] < alone["low"] < 0.94 < alone["high"] < patients["high"] < 1
    assert alone["low"] == pytest.approx(0.866, abs=0.001) and alone["high"] == pytest.approx(0.974, abs=0.001)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40))
def test_every_interval_of_a_share_holds_it(pairs):
    groups, right = (np.array(column) for column in zip(*pairs, strict=True))
    score = estimate_mean(right.astype(float), resample_weights(groups, 100, 0))
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    if len(set(groups)) == 1:
        assert (score["low"], score["high"]) == (0, 1), "a single group tells nothing"


def test_a_few_groups_that_decide_alone_count_as_few():
    """Of 60 groups, all but three are recognised entirely: Student's t has 9 degrees of freedom, not 59."""
    right = np.ones(600)
    right[:30] = 0
    score = estimate_mean(right, resample_weights(np.arange(600) // 10, 100, 0))
    half = logit(0.95) - logit(score["low"])
    error = np.sqrt(0.05 * 0.95 / 59)
    assert half * 0.05 * 0.95 / error == pytest.approx(stats.t.ppf(0.975, 9.314), rel=1e-3)


def test_the_mean_is_that_of_the_images_that_have_a_score():
    weights = resample_weights(np.arange(3), 100, 0)
    mean = estimate_mean(np.array([1.0, np.nan, 4.0]), weights)
    assert mean["value"] == 2.5 and mean["low"] == 0, "values that are never negative have no negative mean"
    assert estimate_mean(np.full(3, np.nan), weights) == {"value": None, "low": None, "high": None}


def test_a_difference_on_which_all_groups_agree_is_distinguishable_from_0():
    weights = resample_weights(np.arange(6), 100, 0)
    lead = np.array([2.0, 2.5, 1.75, 1.5, 2.25, 2.0])
    difference = estimate_difference(lead, np.zeros(6), weights)
    assert difference["value"] == 2 and difference["distinguishable"] and difference["low"] > 1
    assert not estimate_difference(lead - 2, np.zeros(6), weights)["distinguishable"]
    assert not estimate_difference(lead, np.zeros(6), resample_weights(np.zeros(6), 100, 0))["distinguishable"]


def test_the_value_of_a_score_is_there_with_and_without_an_interval():
    assert value({"value": 0.25, "low": 0.0, "high": 0.5}) == value(0.25) == 0.25


def test_a_share_of_none_or_all_is_as_sure_as_so_many_independent_groups():
    """Leaving groups out changes nothing; of 25 groups without an error, up to 15 % may have one."""
    square = stats.t.ppf(0.975, 24) ** 2
    none = estimate(0.0, np.zeros(25), groups=25)
    assert (none["value"], none["low"]) == (0, 0) and none["high"] == pytest.approx(square / (25 + square))
    every = estimate(1.0, np.ones(25), groups=25)
    assert (every["value"], every["high"]) == (1, 1) and every["low"] == pytest.approx(25 / (25 + square))
    assert estimate(0.0, np.zeros(100)) == {"value": 0, "low": 0, "high": 0}  # a difference, say
    assert estimate(1.0, np.ones(1), groups=1) == {"value": 1, "low": 0, "high": 1}


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # 1,304 and 1,308 of 1,311 are published accuracies on a popular brain-MRI test set.
    [(1304, 1311, 0.9890, 0.9974), (1308, 1311, 0.9933, 0.9992), (0, 10, 0.0, 0.2775), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_has_its_known_values(right, n, low, high):
    interval = wilson(right, n)
    assert (interval["low"], interval["high"]) == pytest.approx((low, high), abs=5e-5)
