import numpy as np
import pytest

from mri.explanation.outlines import fit_threshold, score_outline
from mri.explanation.scores import area_error, dice
from mri.inference.overlays import region

SIDE = 32
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE] - SIDE / 2
CONE = np.maximum(0, 1 - np.hypot(ROWS, COLUMNS) / 16)[None]  # 1 in the middle, 0 from 16 pixels on
WEIGHTS = np.ones((10, 1))


def disc(radius: float) -> np.ndarray:
    return (np.hypot(ROWS, COLUMNS) <= radius)[None]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_threshold_that_fits_the_masks_best_is_found_whatever_the_maps_scale(share):
    masks = disc(16 * (1 - share))
    for scale in (1, 1e-6):
        assert fit_threshold(scale * CONE, masks) == share


def test_an_outline_that_fits_is_scored_as_perfect():
    scores = score_outline(CONE, disc(8), 0.5, WEIGHTS)
    assert scores.pop("threshold") == 0.5
    assert {name: score["value"] for name, score in scores.items()} == {"iou": 1, "dice": 1, "area_error": 0}


def test_dice_and_area_error_of_known_regions():
    mask, half, double = (np.zeros((1, 4, 4), bool) for _ in range(3))
    mask[0, :2], half[0, :1], double[0] = True, True, True
    np.testing.assert_allclose(dice(half, mask), 2 * 4 / (4 + 8))
    np.testing.assert_allclose(area_error(half, mask), 0.5)
    np.testing.assert_allclose(area_error(double, mask), 1)
    assert np.isnan(area_error(half, np.zeros_like(mask)))


def test_a_region_is_where_a_map_reaches_a_share_of_its_maximum_and_nothing_of_an_empty_map():
    maps = np.array([[[0.0, 1.0, 2.0, 4.0]], [[0.0, 0.0, 0.0, 0.0]]])
    np.testing.assert_array_equal(region(maps, 0.5), [[[False, False, True, True]], [[False] * 4]])
