import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from mri.inference.consensus import combine, confidence_weights, consensus_class, spearman

SIDE = 20
EQUAL = np.full((2, 1), 0.5)


def square(row: int, column: int, side: int = 4) -> np.ndarray:
    """Return a map (1, SIDE, SIDE) with a bright square and a faint gradient, so that there are no ties."""
    values = np.zeros((1, SIDE, SIDE))
    values[0, row : row + side, column : column + side] = 1 + 0.001 * np.arange(side * side).reshape(side, side)
    return values


def test_networks_that_agree_keep_their_map():
    maps = np.random.default_rng(0).random((3, 2, SIDE, SIDE))
    maps[:] = maps[0]
    result = combine(maps, np.full((3, 2), 1 / 3))
    np.testing.assert_allclose(result.map, maps[0] / maps[0].sum(axis=(1, 2), keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(result.agreement, 1)
    np.testing.assert_allclose(result.correlation, 1)
    np.testing.assert_allclose(result.threshold, 0.5)
    assert not result.disputed.any()
    np.testing.assert_array_equal(result.region, result.map >= 0.5 * result.map.max(axis=(1, 2), keepdims=True))


def test_networks_that_look_elsewhere_disagree_and_leave_only_the_peak():
    maps = np.stack([square(2, 2), square(12, 12)])
    result = combine(maps, np.array([[0.6], [0.4]]), top=16 / SIDE**2)
    assert result.agreement == 0
    assert result.threshold == 1
    np.testing.assert_array_equal(np.argwhere(result.region[0]), [[5, 5]])  # the peak of the more confident one
    np.testing.assert_array_equal(result.disputed, (maps > 0).any(axis=0))
    np.testing.assert_allclose(result.disputed_area, 32 / 400)


def test_half_overlap_gives_the_known_agreement_and_threshold():
    maps = np.stack([square(5, 5), square(5, 7)])
    result = combine(maps, EQUAL, top=16 / SIDE**2)
    np.testing.assert_allclose(result.agreement, 8 / 24)
    np.testing.assert_allclose(result.threshold, 1 - 8 / 48)
    assert result.disputed.sum() == 16
    assert not result.disputed[0, 5:9, 7:9].any()  # where both look


def test_scale_of_a_network_gives_it_no_say():
    maps = np.stack([square(2, 2), square(12, 12)])
    loud = maps * np.array([1000, 1])[:, None, None, None]
    for mine, theirs in zip(combine(loud, EQUAL), combine(maps, EQUAL), strict=True):
        np.testing.assert_allclose(mine, theirs)


def test_combined_map_has_mass_one_weighted_by_confidence():
    result = combine(np.stack([square(2, 2), square(12, 12)]), np.array([[0.75], [0.25]]))
    assert result.map.dtype == np.float32
    np.testing.assert_allclose([result.map.sum(), result.map[0, :10].sum()], [1, 0.75], rtol=1e-6)


def test_network_without_confidence_has_no_effect():
    rng = np.random.default_rng(0)
    maps = rng.random((3, 2, SIDE, SIDE))
    weights = np.array([[0.7, 0.5], [0.3, 0.5], [0.0, 0.0]])
    with_it, without = combine(maps, weights), combine(maps[:2], weights[:2])
    for name in ("map", "agreement", "correlation", "threshold", "region", "disputed"):
        np.testing.assert_allclose(getattr(with_it, name), getattr(without, name), err_msg=name)


def test_one_network_alone_has_nobody_to_agree_with():
    result = combine(np.stack([square(2, 2), square(12, 12)]), np.array([[1.0], [0.0]]))
    assert np.isnan(result.agreement).all()
    assert np.isnan(result.correlation).all()
    assert result.threshold == 1
    assert not result.disputed.any()


def test_empty_maps_agree_on_nothing():
    result = combine(np.zeros((2, 1, SIDE, SIDE)), EQUAL)
    assert not result.map.any()
    assert not result.region.any()
    assert result.agreement == 0
    assert result.correlation == 0


def test_zeros_are_in_no_top_set():
    result = combine(np.stack([square(2, 2), square(12, 12)]), EQUAL, top=0.9)
    assert result.agreement == 0
    assert result.disputed.sum() == 32


def test_no_images_have_no_consensus():
    result = combine(np.zeros((2, 0, SIDE, SIDE)), np.zeros((2, 0)))
    assert result.map.shape == (0, SIDE, SIDE)
    assert result.agreement.shape == (0,)


def test_class_is_the_one_with_the_highest_mean_probability():
    probabilities = np.array([[[0.6, 0.4, 0.0]], [[0.0, 0.5, 0.5]]])
    np.testing.assert_array_equal(consensus_class(probabilities), [1])


def test_weight_is_confidence_above_chance():
    probabilities = np.array([[[0.75, 0.25, 0, 0]], [[0.5, 0.5, 0, 0]], [[0.25, 0.75, 0, 0]], [[0.1, 0.9, 0, 0]]])
    np.testing.assert_allclose(confidence_weights(probabilities, np.array([0]))[:, 0], [2 / 3, 1 / 3, 0, 0])


def test_networks_that_all_guess_weigh_the_same():
    np.testing.assert_array_equal(confidence_weights(np.full((3, 2, 4), 0.25), np.array([0, 3])), 1 / 3)


MAPS = hnp.arrays(np.float64, (3, 1, 5, 5), elements=st.integers(0, 50).map(float))
WEIGHTS = hnp.arrays(np.float64, (3, 1), elements=st.integers(0, 4).map(float))


@given(MAPS, WEIGHTS, st.permutations(range(3)))
def test_order_of_networks_does_not_matter(maps, weights, order):
    assume(weights.sum() > 0)
    weights = weights / weights.sum()
    result, again = combine(maps, weights, top=0.2), combine(maps[list(order)], weights[list(order)], top=0.2)
    for name in ("map", "agreement", "correlation", "threshold", "disputed"):
        np.testing.assert_allclose(getattr(result, name), getattr(again, name), atol=1e-6, err_msg=name)


@given(MAPS, WEIGHTS)
def test_every_figure_keeps_its_range(maps, weights):
    assume(weights.sum() > 0)
    result = combine(maps, weights / weights.sum(), top=0.2)
    assert result.map.min() >= 0
    assert result.map.sum() <= 1 + 1e-6
    assert 0.5 <= result.threshold[0] <= 1
    assert np.isnan(result.agreement[0]) or 0 <= result.agreement[0] <= 1
    assert np.isnan(result.correlation[0]) or abs(result.correlation[0]) <= 1 + 1e-9
    assert result.region.any() == result.map.any()


def test_agreement_weighs_pairs_by_confidence():
    maps = np.stack([square(5, 5), square(5, 5), square(12, 12)])
    result = combine(maps, np.array([[0.4], [0.4], [0.2]]), top=16 / SIDE**2)
    assert result.agreement == pytest.approx(0.16 / (0.16 + 2 * 0.08))


def test_rank_correlation_ignores_monotone_changes():
    maps = np.random.default_rng(0).random((2, 32, 32))
    np.testing.assert_allclose(spearman(maps, np.exp(3 * maps)), [1, 1])
    np.testing.assert_allclose(spearman(maps, 1 - maps), [-1, -1])
    np.testing.assert_allclose(spearman(maps, np.random.default_rng(5).random(maps.shape)), [0, 0], atol=0.1)
    assert np.isnan(spearman(maps, np.ones(maps.shape))).all()


def test_rank_correlation_with_ties_is_scipys():
    first, second = np.random.default_rng(0).integers(0, 4, (2, 3, 9, 9)).astype(float)
    expected = [stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(spearman(first, second), expected)
