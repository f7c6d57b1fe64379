import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri.base.intervals import estimate, estimate_difference, estimate_mean, resample_weights, value, wilson


@given(groups=st.lists(st.integers(0, 5), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_a_resample_draws_whole_groups_as_many_as_there_are(groups, seed):
    weights = resample_weights(groups, 20, seed)
    members = np.array(groups)
    for label in set(groups):
        assert (weights[:, members == label] == weights[:, members == label][:, :1]).all()
    first_of_each = [groups.index(label) for label in set(groups)]
    assert (weights[:, first_of_each].sum(axis=1) == len(set(groups))).all()


def test_images_of_one_patient_widen_the_interval():
    right = np.repeat([1, 0], 50).astype(float)
    alone = resample_weights(np.arange(100), 2000, 0) @ right / 100
    ten_patients = resample_weights(np.arange(100) // 10, 2000, 0) @ right / 100
    assert ten_patients.std() > 2.5 * alone.std()


def test_estimate_holds_the_central_share_and_the_value():
    samples = np.linspace(0, 1, 1001)
    assert estimate(0.5, samples) == pytest.approx({"value": 0.5, "low": 0.025, "high": 0.975})
    assert estimate(2.0, samples)["high"] == 2.0
    assert estimate(0.3, np.array([np.nan])) == {"value": 0.3, "low": 0.3, "high": 0.3}


def test_the_mean_is_that_of_the_images_that_have_a_score():
    weights = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 0.0]])
    mean = estimate_mean(np.array([1.0, np.nan, 4.0]), weights)  # the third resample holds no image with a score
    assert mean == {"value": 2.5, "low": pytest.approx(1.075), "high": pytest.approx(3.925)}
    assert estimate_mean(np.full(3, np.nan), weights) == {"value": None, "low": None, "high": None}


def test_a_difference_on_which_all_resamples_agree_is_distinguishable_from_0():
    weights = np.eye(2)
    difference = estimate_difference(np.array([3.0, 2.0]), np.array([1.0, 1.0]), weights)
    assert difference["value"] == 1.5 and difference["distinguishable"] and difference["low"] > 0.9
    assert not estimate_difference(np.array([3.0, 0.0]), np.array([1.0, 1.0]), weights)["distinguishable"]


def test_the_value_of_a_score_is_there_with_and_without_an_interval():
    assert value({"value": 0.25, "low": 0.0, "high": 0.5}) == value(0.25) == 0.25


def test_a_share_of_none_or_all_is_as_sure_as_so_many_independent_groups():
    """Resampling knows nothing but zeros; of 25 groups without an error, up to 13 % may have one."""
    none = estimate(0.0, np.zeros(100), groups=25)
    assert (none["value"], none["low"]) == (0, 0) and none["high"] == pytest.approx(0.1332, abs=1e-4)
    every = estimate(1.0, np.ones(100), groups=25)
    assert (every["value"], every["high"]) == (1, 1) and every["low"] == pytest.approx(0.8668, abs=1e-4)
    assert estimate(0.0, np.zeros(100)) == {"value": 0, "low": 0, "high": 0}  # a difference, say
    assert estimate(0.5, np.array([0.4, 0.6]), groups=25)["low"] == pytest.approx(0.405)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # 1,304 and 1,308 of 1,311 are published accuracies on a popular brain-MRI test set.
    [(1304, 1311, 0.9890, 0.9974), (1308, 1311, 0.9933, 0.9992), (0, 10, 0.0, 0.2775), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_has_its_known_values(right, n, low, high):
    interval = wilson(right, n)
    assert (interval["low"], interval["high"]) == pytest.approx((low, high), abs=5e-5)
