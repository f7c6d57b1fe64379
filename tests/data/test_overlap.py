"""Overlap of two datasets: copies are found although turned by any angle, squeezed and mirrored; strangers are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mri.data.overlap import COLUMNS, copies, polar, reduced, whitened


def head(seed: int, size: int = 150) -> np.ndarray:
    """Return a grey ellipse with fine random texture on black, uint8 (size, size)."""
    random = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    inside = np.hypot(x / random.uniform(0.26, 0.34), y / random.uniform(0.36, 0.44)) < 1
    texture = ndimage.gaussian_filter(random.normal(size=(size, size)), size / 40)
    texture = (texture - texture.min()) / np.ptp(texture)
    return np.where(inside, 50 + 200 * texture, 0).astype(np.uint8)


HEADS = [head(seed) for seed in range(6)]
OURS = polar(len(HEADS), HEADS.__getitem__)


def changed(image: np.ndarray, degrees: float, mirrored: bool, width: float, height: float, gamma: float) -> np.ndarray:
    """Mirror, turn anticlockwise, stretch and brighten a picture."""
    turned = ndimage.rotate(np.pad(image[:, ::-1] if mirrored else image, 12), degrees, reshape=True, order=1)
    size = (round(width * turned.shape[1]), round(height * turned.shape[0]))
    stretched = np.asarray(Image.fromarray(turned).resize(size))
    return np.uint8(255 * (stretched / 255) ** gamma)


def against_ours(*images: np.ndarray, threshold: float = 0.93) -> list[list]:
    table = copies(polar(len(images), images.__getitem__), OURS, threshold)
    assert list(table.columns) == list(COLUMNS)
    return table[["a", "b", "mirrored"]].to_numpy().tolist()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("degrees", "width", "height", "gamma"), [(0, 1, 1, 1), (37, 1, 1, 1), (90, 0.5, 0.5, 1), (205, 0.7, 1, 0.8)]
)
def test_a_copy_is_found_however_it_lies(degrees, width, height, gamma, mirrored):
    copy = changed(HEADS[3], degrees, mirrored, width, height, gamma)
    assert against_ours(HEADS[2], copy) == [[0, 2, False], [1, 3, mirrored]]


def test_the_angle_is_that_by_which_the_original_has_to_be_turned():
    table = copies(polar(1, lambda _: changed(HEADS[1], 90, False, 1, 1, 1)), OURS, 0.9)
    assert table["degrees"][0] in (90, 270)
    assert table["correlation"][0] > 0.98


def test_other_heads_and_blank_images_are_no_copies():
    strangers = [head(seed) for seed in range(20, 26)]
    blank = np.zeros((60, 80), np.uint8)
    assert against_ours(*strangers, blank, blank + 90) == []


def test_a_whitened_head_has_unit_spread_whatever_its_shape():
    y, x = np.mgrid[:120, :160]
    ellipse = np.where(((x - 80) / 60) ** 2 + ((y - 50) / 30) ** 2 < 1, np.uint8(200), np.uint8(0))
    for frame in whitened(ellipse):
        # Spread of an ellipse is half its semi-axis.
        np.testing.assert_allclose(frame, [[15, 0, 50], [0, 30, 80]], atol=0.6)


def test_large_pictures_are_reduced_by_whole_blocks():
    assert reduced(np.full((1000, 700), 7, np.uint8)).shape == (200, 140)
    assert reduced(HEADS[0]).shape == (150, 150)
