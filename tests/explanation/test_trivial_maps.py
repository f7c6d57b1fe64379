import numpy as np
import pytest
from scipy import ndimage

from mri.explanation import trivial_maps
from mri.explanation.scores import entropy
from mri.inference.gradcam import Cells

IMAGES = np.random.default_rng(0).random((3, 32, 48), dtype=np.float32)


def test_every_trivial_map_is_a_map_like_any_other():
    maps = trivial_maps.trivial_maps(IMAGES, seed=0)
    assert set(maps) == {"random", "constant", "gaussian", "sobel", "intensity"}
    for values in maps.values():
        assert (values.shape, values.dtype) == (IMAGES.shape, np.float32)
        assert values.min() >= 0


def test_random_maps_follow_their_seed():
    same, again, other = (trivial_maps.trivial_maps(IMAGES, seed)["random"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(same, other)


def test_gaussian_peaks_in_the_middle_with_a_sigma_of_40_pixels_at_224():
    bell = trivial_maps.gaussian(np.zeros((1, 224, 224)))[0]
    np.testing.assert_allclose(bell, bell[::-1])
    np.testing.assert_allclose(bell, bell.T)
    assert bell[111, 151] / bell[111, 111] == pytest.approx(np.exp(-(39.5**2 - 0.5**2) / 3200), rel=1e-5)


def test_sobel_sees_edges_and_not_areas():
    image = np.zeros((1, 8, 8))
    image[:, :, 4:] = 1
    edges = trivial_maps.sobel(image)[0]
    np.testing.assert_array_equal(np.flatnonzero(edges.any(axis=0)), [3, 4])


def test_intensity_is_a_copy():
    maps = trivial_maps.intensity(IMAGES)
    np.testing.assert_array_equal(maps, IMAGES)
    assert not np.shares_memory(maps, IMAGES)


def test_oracle_of_one_cell_per_pixel_is_the_mask():
    masks = IMAGES > 0.5
    np.testing.assert_allclose(trivial_maps.grid_oracle(masks, (32, 48)), masks, atol=1e-6)


def test_oracle_of_one_cell_is_the_share_of_the_mask():
    masks = IMAGES > 0.5
    shares = masks.mean(axis=(1, 2))[:, None, None] * np.ones(masks.shape)
    np.testing.assert_allclose(trivial_maps.grid_oracle(masks, (1, 1)), shares, rtol=1e-6)


def test_cells_that_stand_elsewhere_reach_half_a_step_and_the_outermost_to_the_border():
    weights = trivial_maps._area_weights(8, 2, Cells(first=0, step=4))
    np.testing.assert_allclose(weights[0], [0.4, 0.4, 0.2, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(weights[1] * 5.5, [0, 0, 0.5, 1, 1, 1, 1, 1])


@pytest.mark.parametrize(("side", "cells"), [(12, 4), (240, 7), (10, 4), (5, 5)])
def test_cells_may_cut_pixels_and_keep_their_mass(side, cells):
    weights = trivial_maps._area_weights(side, cells)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights.sum(axis=0), cells / side)


def test_blur_reaches_the_wanted_entropy():
    point = np.zeros((2, 32, 32), np.float32)
    point[:, 10, 20] = 1
    target = np.array([0.5, 0.8])
    blurred = trivial_maps.blurred_to_entropy(point, target)
    np.testing.assert_allclose(entropy(blurred), target, atol=2e-3)
    assert blurred.dtype == np.float32


def test_blur_leaves_maps_that_are_spread_out_enough_or_empty():
    maps = np.stack([np.ones((16, 16)), np.zeros((16, 16))])
    np.testing.assert_array_equal(trivial_maps.blurred_to_entropy(maps, np.array([0.9, 0.9])), maps)


def test_blur_is_gaussian():
    maps = np.zeros((1, 64, 64))
    maps[0, 32, 32] = 1
    goal = entropy(ndimage.gaussian_filter(maps, (0, 5, 5)))
    blurred = trivial_maps.blurred_to_entropy(maps, goal, steps=16)
    np.testing.assert_allclose(blurred, ndimage.gaussian_filter(maps, (0, 5, 5)), atol=1e-5)
