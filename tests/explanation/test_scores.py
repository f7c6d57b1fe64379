import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics

from mri.explanation import scores
from mri.explanation.trivial_maps import gaussian, grid_oracle, random

SIDE = 224
EMPTY = np.zeros((1, 8, 8))


def disc(row: float, column: float, radius: float, side: int = SIDE) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    return np.array([disc(80, 90, 20), disc(130, 120, 20)])


P = 1257 / SIDE**2  # a disc of radius 20 round a pixel


def test_perfect_map_scores_one_everywhere(masks):
    for name, score in scores.localisation(masks.astype(float), masks).items():
        np.testing.assert_array_equal(score, [1, 1], err_msg=name)


def test_complement_scores_zero_everywhere(masks):
    result = scores.localisation((~masks).astype(float), masks)
    for name, score in result.items():
        np.testing.assert_array_equal(score, [0, 0], err_msg=name)


def test_constant_map_scores_chance(masks):
    result = scores.localisation(np.full(masks.shape, 3.0), masks)
    for name in ("pointing_game", "rma", "rra"):
        np.testing.assert_allclose(result[name], P, err_msg=name)
    np.testing.assert_array_equal(result["auroc"], 0.5)
    np.testing.assert_array_equal(result["iou_otsu"], 0)  # no threshold separates it


def test_random_maps_score_the_stated_chance():
    masks = np.repeat([disc(20, 30, 14, side=64)], 300, axis=0)
    result = scores.localisation(random(masks, seed=1), masks)
    for name, level in scores.chance(masks).items():
        spread = result[name].std() / np.sqrt(len(masks))
        assert abs(result[name].mean() - level.mean()) < 4 * spread, name
    assert scores.chance(masks)["rra"][0] == pytest.approx(masks[0].mean())
    assert scores.chance(masks)["auroc"][0] == 0.5


def test_empty_map_is_counted_and_scores_zero(masks):
    maps = np.zeros(masks.shape)
    result = scores.localisation(maps, masks)
    for name in ("pointing_game", "rma", "rra", "iou_otsu"):
        np.testing.assert_array_equal(result[name], [0, 0], err_msg=name)
    np.testing.assert_array_equal(result["auroc"], 0.5)
    np.testing.assert_array_equal(scores.empty(maps), [True, True])
    np.testing.assert_array_equal(scores.empty(-1 * masks), [True, True])  # nothing but negative values
    np.testing.assert_array_equal(scores.empty(masks), [False, False])


def test_empty_mask_has_no_score(masks):
    masks = masks & [[[True]], [[False]]]
    for name, score in scores.localisation(random(masks), masks).items():
        np.testing.assert_array_equal(np.isnan(score), [False, True], err_msg=name)
    for name, score in scores.chance(masks).items():
        np.testing.assert_array_equal(np.isnan(score), [False, True], err_msg=name)


def test_centre_prior_scores_as_published_for_a_lesion_off_the_centre():
    mask = disc(126, 112, 20)[None]
    result = scores.localisation(gaussian(np.zeros(mask.shape)), mask)
    assert result["pointing_game"][0] == 1
    assert result["rma"][0] == pytest.approx(0.112, abs=5e-4)
    assert result["rra"][0] == pytest.approx(0.55, abs=5e-3)
    assert result["auroc"][0] == pytest.approx(0.987, abs=1e-3)


@pytest.mark.parametrize(
    ("radius", "grid", "pointing", "mass", "rank"),
    [
        (12, 7, 0.48, 0.20, 0.51),
        (12, 14, 1.00, 0.49, 0.89),
        (20, 7, 0.99, 0.41, 0.82),
        (20, 14, 1.00, 0.68, 0.96),
        (30, 7, 1.00, 0.59, 0.94),
    ],
)
def test_ceiling_of_a_grid_is_the_published_one(radius, grid, pointing, mass, rank):
    # Published for other lesion positions. A grid of 4 x 4 depends on them too much: its exact values are below.
    centres = np.random.default_rng(0).integers(32, 192, (60, 2))
    masks = np.array([disc(*centre, radius) for centre in centres])
    maps = grid_oracle(masks, (grid, grid))
    assert scores.pointing_game(maps, masks).mean() == pytest.approx(pointing, abs=0.035)
    assert scores.mass_accuracy(maps, masks).mean() == pytest.approx(mass, abs=0.01)
    assert scores.rank_accuracy(maps, masks).mean() == pytest.approx(rank, abs=0.025)


def test_a_coarse_grid_cannot_tell_a_lesion_on_a_corner_from_the_cells_around_it():
    """A quarter of 28 x 28 pixels lies in each of four cells of 56 x 56, between whose centres the map is a plateau."""
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[0, 98:126, 98:126] = True
    oracle = grid_oracle(mask, (4, 4))
    assert (oracle == oracle.max()).sum() == 56**2
    assert scores.pointing_game(oracle, mask)[0] == scores.rank_accuracy(oracle, mask)[0] == 28**2 / 56**2
    assert scores.mass_accuracy(oracle, mask)[0] == pytest.approx(28**2 / (4 * 56**2), rel=1e-6)


def test_a_lesion_that_fills_one_cell_of_a_coarse_grid_keeps_nine_sixteenths_of_the_mass():
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[0, 56:112, 56:112] = True
    oracle = grid_oracle(mask, (4, 4))
    assert scores.pointing_game(oracle, mask)[0] == 1
    assert scores.mass_accuracy(oracle, mask)[0] == pytest.approx((3 / 4) ** 2, rel=1e-6)


def one_row(values: list, mask: list) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[values]], float), np.array([[mask]], bool)


def test_ties_at_the_peak_count_by_their_share():
    np.testing.assert_array_equal(scores.pointing_game(*one_row([5, 5, 5, 1], [1, 0, 0, 1])), [1 / 3])


def test_ties_at_the_kth_place_count_by_their_expected_share():
    # k = 3: 9 is in the mask; two places are left for four tied pixels, one of them in the mask: (1 + 2 / 4) / 3
    np.testing.assert_allclose(scores.rank_accuracy(*one_row([9, 4, 4, 4, 4, 1], [1, 1, 0, 0, 0, 1])), [0.5])


def test_negative_values_count_as_zero():
    maps, mask = one_row([2, -6, 2, 0], [1, 0, 0, 1])
    np.testing.assert_array_equal(scores.mass_accuracy(maps, mask), [0.5])
    np.testing.assert_array_equal(scores.rank_accuracy(maps, mask), [0.5])


def test_auroc_counts_pairs_in_order():
    # pairs (inside, outside): 3 > 2, 3 > 1, 1 < 2, 1 = 1
    np.testing.assert_allclose(scores.auroc(*one_row([3, 1, 2, 1], [1, 1, 0, 0])), [(1 + 1 + 0 + 0.5) / 4])


def test_iou_cuts_between_the_two_levels_of_a_map():
    maps, mask = one_row([0, 0, 1, 9, 10, 10], [0, 0, 0, 0, 1, 1])
    np.testing.assert_allclose(scores.iou_otsu(maps, mask), [2 / 3])


def test_no_images_have_no_scores():
    none = np.zeros((0, 8, 8))
    for score in (scores.localisation(none, none > 0), scores.chance(none > 0)):
        assert {name: values.shape for name, values in score.items()} == dict.fromkeys(scores.LOCALISATION, (0,))
    for function in (scores.empty, scores.gini, scores.entropy):
        assert function(none).shape == (0,)


def test_mask_of_another_shape_or_type_is_refused():
    with pytest.raises(ValueError, match="masks must be bool of the same shape"):
        scores.mass_accuracy(np.ones((1, 4, 4)), np.ones((1, 4, 5), bool))
    with pytest.raises(ValueError, match="masks must be bool"):
        scores.mass_accuracy(np.ones((1, 4, 4)), np.ones((1, 4, 4)))


def test_nan_in_a_map_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        scores.gini(np.full((1, 4, 4), np.nan))


MAPS = hnp.arrays(np.float64, (1, 6, 6), elements=st.integers(0, 20).map(float))
MASKS = hnp.arrays(np.bool_, (1, 6, 6))


@given(MAPS, MASKS, st.integers(1, 1000))
def test_no_score_depends_on_the_scale_of_a_map(maps, masks, factor):
    for name, score in scores.localisation(maps, masks).items():
        np.testing.assert_allclose(score, scores.localisation(maps * factor, masks)[name], rtol=1e-9, err_msg=name)


@given(MAPS, MASKS, st.permutations(range(36)))
def test_no_score_but_of_shape_depends_on_the_order_of_pixels(maps, masks, order):
    shuffled = [a.reshape(1, -1)[:, order].reshape(a.shape) for a in (maps, masks)]
    for name, score in scores.localisation(maps, masks).items():
        np.testing.assert_allclose(score, scores.localisation(*shuffled)[name], rtol=1e-9, err_msg=name)


@given(MAPS, MASKS)
def test_scores_lie_between_zero_and_one(maps, masks):
    for score in (*scores.localisation(maps, masks).values(), scores.gini(maps), scores.entropy(maps)):
        assert np.isnan(score[0]) or -1e-12 <= score[0] <= 1 + 1e-12


def test_sparsity_runs_from_flat_to_one_pixel():
    flat, single = np.ones((1, 8, 8)), np.zeros((1, 8, 8))
    single[0, 3, 3] = 2
    uniform = random(np.zeros((1, SIDE, SIDE)))
    np.testing.assert_allclose([scores.gini(m)[0] for m in (flat, single, uniform)], [0, 1 - 1 / 64, 1 / 3], atol=5e-3)
    np.testing.assert_allclose([scores.entropy(m)[0] for m in (flat, single)], [1, 0], atol=1e-12)
    assert scores.entropy(uniform)[0] == pytest.approx(0.98, abs=5e-3)
    assert np.isnan(scores.gini(EMPTY)).all()
    assert np.isnan(scores.entropy(EMPTY)).all()


def test_head_is_found_with_its_dark_holes_and_without_specks():
    image = np.full((64, 64), 2, np.uint8)
    image[disc(32, 32, 25, side=64)] = 120
    image[disc(32, 32, 8, side=64)] = 0  # ventricles
    image[2:4, 2:6] = 255  # a letter
    np.testing.assert_array_equal(scores.head(image[None])[0], disc(32, 32, 25, side=64))
    assert not scores.head(np.zeros((1, 16, 16))).any()


def test_mass_outside_the_head_is_measured():
    head = disc(32, 32, 25, side=64)[None]
    maps = np.where(head, 1.0, 3.0)
    outside = (~head).sum()
    np.testing.assert_allclose(scores.outside_head(maps, head), 3 * outside / (3 * outside + head.sum()))
    np.testing.assert_array_equal(scores.outside_head(head.astype(float), head), [0])
    assert np.isnan(scores.outside_head(EMPTY, EMPTY.astype(bool))[0])


def test_structural_similarity_is_one_for_equal_maps_of_any_scale():
    maps = random(np.zeros((2, 32, 32)))
    np.testing.assert_allclose(scores.ssim(maps, 7 * maps), [1, 1])
    assert (np.abs(scores.ssim(maps, random(maps, seed=5))) < 0.2).all()


def test_the_threshold_keeps_the_values_of_a_bin_together():
    values = np.array([0.0] * 9 + [1.0] * 3 + [1.6, 1.9, 256.0, 255.5])  # bins of width 1; 1, 1.6 and 1.9 share one
    assert scores.otsu(values) == 2


def trained_maps() -> np.ndarray:
    centres = np.random.default_rng(3).uniform(8, 24, (12, 2))
    y, x = np.mgrid[:32, :32]
    return np.array([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 40) for a, b in centres])


def test_randomisation_passes_maps_that_change_with_the_weights():
    maps = trained_maps()
    result = scores.randomisation(maps, random(maps)[None], seed=0)
    assert result.passed
    assert result.spearman.shape == result.ssim.shape == (1, 12)
    assert abs(result.spearman.mean()) < 0.05
    assert result.spearman_reference > result.spearman.mean()


def test_randomisation_fails_maps_that_ignore_the_weights():
    edges = trained_maps()
    result = scores.randomisation(edges, edges[None], seed=0)
    assert not result.passed
    np.testing.assert_allclose(result.spearman, 1)
    assert result.ssim_reference < 1


@pytest.mark.parametrize("make", [gaussian, np.ones_like])
def test_randomisation_fails_one_map_for_all_images(make):
    maps = make(np.zeros((6, 32, 32)))
    assert not scores.randomisation(maps, maps[None], seed=0).passed


def test_randomisation_reference_compares_different_images_only():
    maps = np.stack([trained_maps()[0], 1 - trained_maps()[0]])
    result = scores.randomisation(maps, maps[None], seed=0)
    assert result.spearman_reference == pytest.approx(-1)


def test_skill_runs_from_the_trivial_map_to_the_ceiling():
    assert scores.skill(0.4, 0.2, 0.6) == pytest.approx(0.5)
    assert scores.skill(0.2, 0.2, 0.6) == 0
    assert scores.skill(0.1, 0.2, 0.6) < 0
    assert np.isnan(scores.skill(0.4, 0.6, 0.6))


@pytest.fixture(scope="module")
def uneven() -> tuple[np.ndarray, np.ndarray]:
    """Return four maps with ties, and the discs they are scored against."""
    rng = np.random.default_rng(0)
    maps = np.round(rng.random((4, 32, 32)), 2)
    return maps, np.array([disc(*centre, 6, side=32) for centre in rng.integers(8, 24, (4, 2))])


def of_each(score, maps: np.ndarray, masks: np.ndarray) -> list[float]:
    """Return score(mask, map) of every image, both flat, in scikit-learn's argument order."""
    return [score(mask.ravel(), values.ravel()) for values, mask in zip(maps, masks, strict=True)]


def test_auroc_equals_scikit_learns(uneven):
    np.testing.assert_allclose(scores.auroc(*uneven), of_each(metrics.roc_auc_score, *uneven))


def test_rank_accuracy_equals_scikit_learns_precision_of_the_highest_pixels():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((4, 32, 32)), np.array([disc(*c, 6, side=32) for c in rng.integers(8, 24, (4, 2))])

    def precision(mask: np.ndarray, values: np.ndarray) -> float:
        return metrics.precision_score(mask, values >= np.sort(values)[-mask.sum()])

    np.testing.assert_allclose(scores.rank_accuracy(maps, masks), of_each(precision, maps, masks))


def test_overlap_equals_scikit_learns(uneven):
    maps, masks = uneven
    expected = of_each(lambda mask, region: metrics.jaccard_score(mask, region), maps > 0.9, masks)
    np.testing.assert_allclose(scores.iou(maps > 0.9, masks), expected)


def test_mass_and_peaks_equal_weighted_means_of_the_mask(uneven):
    maps, masks = uneven
    masses = of_each(lambda mask, values: np.average(mask, weights=values), maps, masks)
    peaks = of_each(lambda mask, values: mask[values == values.max()].mean(), maps, masks)
    np.testing.assert_allclose(scores.mass_accuracy(maps, masks), masses)
    np.testing.assert_allclose(scores.pointing_game(maps, masks), peaks)
    assert len({*peaks}) > 1


def test_entropy_equals_scipys(uneven):
    expected = [stats.entropy(values.ravel(), base=values.size) for values in uneven[0]]
    np.testing.assert_allclose(scores.entropy(uneven[0]), expected)


def test_gini_is_what_the_lorenz_curve_lacks_of_equality(uneven):
    expected = []
    for values in uneven[0]:
        lorenz = np.append(0, np.cumsum(np.sort(values, axis=None)) / values.sum())
        expected.append(1 - 2 * metrics.auc(np.linspace(0, 1, len(lorenz)), lorenz))
    np.testing.assert_allclose(scores.gini(uneven[0]), expected)
