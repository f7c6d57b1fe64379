import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mri.inference.prediction_sets import fit_threshold, prediction_sets, summarise

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
ALPHAS = st.floats(0.01, 0.99)


def draws(n: int, seed: int, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of four classes, and labels drawn from others: a useful but miscalibrated network."""
    random = np.random.default_rng(seed)
    logits = spread * random.normal(size=(n, 4))
    labels = (logits / 2 + random.gumbel(size=(n, 4))).argmax(1)
    exponents = np.exp(logits)
    return exponents / exponents.sum(1, keepdims=True), labels


def test_threshold_is_the_probability_of_the_finite_sample_quantile():
    true = np.arange(1, 20) / 20  # 19 images whose true class got 0.05, 0.10, ... 0.95
    probabilities = np.stack([true, 1 - true], axis=1)
    labels = np.zeros(19, int)
    assert fit_threshold(probabilities, labels, 0.05) == 0.05  # 20 * 0.05 = the first
    assert fit_threshold(probabilities, labels, 0.5) == 0.5
    assert fit_threshold(probabilities, labels, 0.549) == 0.5
    assert fit_threshold(probabilities, labels, 0.55) == 0.55


def test_rank_is_exact_where_floating_point_is_not():
    probabilities = np.stack([np.arange(1, 100) / 100, np.arange(1, 100)[::-1] / 100], axis=1)
    assert 0.29 * 100 < 29
    assert fit_threshold(probabilities, np.zeros(99, int), 0.29) == 0.29


@pytest.mark.parametrize(("alpha", "enough"), [(0.05, 19), (0.01, 99), (0.1, 9)])
def test_too_few_images_keep_every_class(alpha, enough):
    probabilities, labels = draws(enough, 0)
    assert fit_threshold(probabilities[1:], labels[1:], alpha) == 0.0
    assert fit_threshold(probabilities, labels, alpha) == probabilities[np.arange(enough), labels].min()
    assert prediction_sets(probabilities, 0.0).all()


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1])
def test_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1"):
        fit_threshold(*draws(10, 0), alpha)


@given(seed=st.integers(0, 1000), n=st.integers(1, 60), alphas=st.tuples(ALPHAS, ALPHAS))
def test_a_larger_alpha_never_adds_a_class(seed, n, alphas):
    probabilities, labels = draws(n, seed)
    new, _ = draws(30, seed + 1)
    wide, narrow = (prediction_sets(new, fit_threshold(probabilities, labels, alpha)) for alpha in sorted(alphas))
    assert (narrow <= wide).all()


@given(seed=st.integers(0, 1000), threshold=st.floats(0, 1))
def test_a_set_is_empty_only_where_no_class_reaches_the_threshold(seed, threshold):
    probabilities, _ = draws(30, seed)
    sets = prediction_sets(probabilities, threshold)
    empty = ~sets.any(1)
    assert (empty == (probabilities.max(1) < threshold)).all()
    assert threshold > 0.25 or not empty.any()
    assert sets[np.arange(30), probabilities.argmax(1)][~empty].all()


@given(seed=st.integers(0, 1000), n=st.integers(1, 40), alpha=ALPHAS)
def test_leaving_each_image_out_in_turn_covers_as_promised(seed, n, alpha):
    # For n + 1 exchangeable images the share that the others' threshold misses is at most alpha: no chance involved.
    probabilities, labels = draws(n + 1, seed)
    covered = 0
    for left_out in range(n + 1):
        others = np.arange(n + 1) != left_out
        threshold = fit_threshold(probabilities[others], labels[others], alpha)
        covered += probabilities[left_out, labels[left_out]] >= threshold
    assert covered >= (1 - alpha) * (n + 1) - 1e-6


@pytest.mark.parametrize(("n", "alpha", "low", "high"), [(500, 0.05, 0.929, 0.967), (500, 0.01, 0.980, 0.997)])
def test_realised_coverage_has_its_known_distribution(n, alpha, low, high):
    expected = stats.beta(n + 1 - (rank := int((n + 1) * alpha)), rank)
    np.testing.assert_allclose(expected.ppf([0.025, 0.975]), [low, high], atol=1e-3)
    new, truth = draws(20_000, 10_000)
    true = new[np.arange(len(truth)), truth]
    coverage = [(true >= fit_threshold(*draws(n, seed), alpha)).mean() for seed in range(200)]
    assert stats.kstest(coverage, expected.cdf).pvalue > 0.001
    assert np.mean(coverage) == pytest.approx(expected.mean(), abs=0.003)


def test_summary_counts_sets_and_coverage():
    sets = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    summary = summarise(sets, np.array([0, 1, 0, 0, 3]), np.arange(5), CLASSES, resamples=500)
    assert summary["coverage"]["value"] == pytest.approx(3 / 5)
    assert summary["coverage"]["low"] < 0.4 < 0.8 < summary["coverage"]["high"]
    assert {name: share["value"] for name, share in summary["per_class"].items()} == pytest.approx(
        {"glioma": 1 / 3, "meningioma": 1.0, "pituitary": 1.0}
    )
    assert summary["mean_size"] == pytest.approx(8 / 5)
    assert (summary["empty"], summary["single"], summary["several"]) == (0.2, 0.4, 0.4)


def test_coverage_is_lost_on_images_from_elsewhere():
    threshold = fit_threshold(*draws(500, 0), 0.1)
    probabilities, labels = draws(2000, 1)
    same = summarise(prediction_sets(probabilities, threshold), labels, np.arange(2000), CLASSES, resamples=200)
    elsewhere = np.roll(labels, 1)
    other = summarise(prediction_sets(probabilities, threshold), elsewhere, np.arange(2000), CLASSES, resamples=200)
    assert same["coverage"]["low"] < 0.9 < same["coverage"]["high"] + 0.03
    assert other["coverage"]["high"] < 0.8
