import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mri.base.intervals import resample_weights, wilson
from mri.evaluation.confidence import expected_calibration_error, noise_floor, reliability_curve


def sure(confidence: np.ndarray) -> np.ndarray:
    """Return probabilities (N, 4) that predict class 0 with the given confidence."""
    rest = np.repeat((1 - confidence[:, None]) / 3, 3, axis=1)
    return np.concatenate([confidence[:, None], rest], axis=1)


def error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    return float(expected_calibration_error(probabilities, labels, np.ones((1, len(labels))), bins)[0])


def test_calibration_error_is_the_mean_gap_over_bins_of_equal_mass():
    probabilities = sure(np.array([0.6] * 10 + [0.9] * 10))
    labels = np.array([0] * 8 + [1] * 2 + [0] * 8 + [1] * 2)  # 80 % right in both halves
    assert error(probabilities, labels, bins=2) == pytest.approx((0.2 + 0.1) / 2)
    assert error(probabilities, labels, bins=1) == pytest.approx(0.8 - 0.75)


def test_overconfidence_and_underconfidence_do_not_cancel_between_bins():
    probabilities = sure(np.array([0.5] * 10 + [1.0] * 10))
    labels = np.array([0] * 10 + [0] * 5 + [1] * 5)
    assert error(probabilities, labels, bins=1) == pytest.approx(0.0)
    assert error(probabilities, labels, bins=2) == pytest.approx(0.5)


def test_perfect_and_utterly_wrong_predictions_have_the_extreme_errors():
    assert error(np.eye(4)[[0, 1, 2, 3]], np.arange(4)) == 0.0
    assert error(np.eye(4)[[1, 2, 3, 0]], np.arange(4)) == 1.0


@given(seed=st.integers(0, 100), n=st.integers(1, 60))
def test_more_bins_never_lower_the_error_when_each_is_cut_in_two(seed, n):
    random = np.random.default_rng(seed)
    probabilities, labels = random.dirichlet(np.ones(4), 4 * n), random.integers(0, 4, 4 * n)
    assert error(probabilities, labels, bins=2) <= error(probabilities, labels, bins=4) + 1e-12


def test_resamples_are_scored_all_at_once():
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(4), 60), random.integers(0, 4, 60)
    weights = resample_weights(np.arange(60) // 3, 5, 0)
    together = expected_calibration_error(probabilities, labels, weights)
    assert together.tolist() == [expected_calibration_error(probabilities, labels, w[None])[0] for w in weights]


def test_noise_floor_is_the_mean_absolute_deviation_of_a_binomial():
    n, confidence = 300, 0.9  # 15 bins of 20 images, each as sure as the other
    floor = noise_floor(sure(np.full(n, confidence)), draws=4000)
    deviation = np.abs(np.arange(21) / 20 - confidence)
    chance = stats.binom.pmf(np.arange(21), 20, confidence)
    mean = deviation @ chance
    spread = np.sqrt((deviation**2 @ chance - mean**2) / 15)
    assert floor["mean"] == pytest.approx(mean, rel=0.01)
    assert floor["p95"] == pytest.approx(mean + 1.645 * spread, rel=0.02)


@pytest.mark.parametrize(("mean", "floor", "p95"), [(0.993, 0.006, 0.008), (0.964, 0.014, 0.020), (0.90, 0.023, 0.032)])
def test_noise_floor_of_1311_images_has_its_known_values(mean, floor, p95):
    # Confidences spread as the quantiles of Beta(mean / (1 - mean), 1).
    confidence = ((np.arange(1311) + 0.5) / 1311) ** ((1 - mean) / mean)
    measured = noise_floor(sure(confidence))
    assert confidence.mean() == pytest.approx(mean, abs=1e-3)
    assert (measured["mean"], measured["p95"]) == pytest.approx((floor, p95), abs=1e-3)


def test_a_calibrated_network_stays_below_its_floor_and_an_overconfident_one_does_not():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(4) / 2, 600)
    labels = np.array([random.choice(4, p=p) for p in probabilities])
    assert error(probabilities, labels) <= noise_floor(probabilities)["p95"]
    sharpened = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    assert error(sharpened, labels) > noise_floor(sharpened)["p95"]


def test_noise_floor_falls_with_the_root_of_the_number_of_images():
    few, many = (noise_floor(sure(np.full(n, 0.8)))["mean"] for n in (300, 4800))
    assert few / many == pytest.approx(4, rel=0.05)


def test_reliability_curve_has_a_row_per_bin_with_its_interval():
    probabilities = sure(np.array([0.9, 0.6, 0.9, 0.6, 0.8, 0.7]))
    labels = np.array([0, 1, 0, 0, 0, 1])
    curve = reliability_curve(probabilities, labels, bins=2)
    assert curve["confidence"].tolist() == pytest.approx([(0.6 + 0.6 + 0.7) / 3, (0.8 + 0.9 + 0.9) / 3])
    assert curve["accuracy"].tolist() == pytest.approx([1 / 3, 1.0])
    assert curve["images"].tolist() == [3, 3]
    assert (curve["low"][0], curve["high"][0]) == (wilson(1, 3)["low"], wilson(1, 3)["high"])


@given(seed=st.integers(0, 100), n=st.integers(1, 80))
def test_the_error_is_the_mean_gap_of_the_reliability_curve(seed, n):
    random = np.random.default_rng(seed)
    probabilities, labels = random.dirichlet(np.ones(4), n), random.integers(0, 4, n)
    curve = reliability_curve(probabilities, labels)
    assert curve["images"].sum() == n
    assert len(curve) == min(15, n)
    gap = (curve["images"] * (curve["accuracy"] - curve["confidence"]).abs()).sum() / n
    assert error(probabilities, labels) == pytest.approx(gap)
