import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mri.data.counterfactuals import can_mirror, choose_shift, head, midline, paste_lesion, remove_lesion

SIDE = 160
Y, X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2


def symmetric_head(degrees: float = 0, offset: float = 0) -> np.ndarray:
    """Return a head, mirrored about a line at an angle to the vertical and at an offset from the centre."""
    angle = np.radians(degrees)
    across = np.cos(angle) * X + np.sin(angle) * Y - offset
    along = -np.sin(angle) * X + np.cos(angle) * Y
    inside = (across / 50) ** 2 + (along / 65) ** 2
    image = np.where(inside < 1, 0.4 + 0.1 * np.cos(np.abs(across) / 6) + along / 600, 0)
    return np.where((inside > 0.85) & (inside < 1), 0.8, image).astype(np.float32)


def disc(row: float, column: float, radius: float) -> np.ndarray:
    return np.hypot(Y - row, X - column) <= radius


@pytest.mark.parametrize(("degrees", "offset"), [(0, 0), (0, 5), (7, -8), (-11, 3)])
def test_midline_finds_the_axis_of_a_turned_and_moved_head(degrees: float, offset: float):
    mask = disc(-10, 20, 8)
    found = midline(np.where(mask, 1, symmetric_head(degrees, offset)), mask)
    assert np.degrees(found.angle) == pytest.approx(degrees, abs=1)
    assert found.offset == pytest.approx(offset, abs=1)
    assert found.symmetry > 0.9


def test_a_removed_tumour_leaves_the_healthy_head():
    healthy, mask = symmetric_head(), disc(-10, 22, 9)
    sick = np.where(mask, 0.95, healthy).astype(np.float32)
    removed = remove_lesion(sick, mask)
    assert removed is not None and removed.dtype == np.float32
    assert np.abs(removed - healthy)[mask].max() < 0.06
    far = ndimage.distance_transform_edt(~mask) > 0.0625 * SIDE
    np.testing.assert_array_equal(removed[far], sick[far])
    assert sick[mask].min() == np.float32(0.95)


def test_a_tumour_on_the_midline_an_asymmetric_head_and_an_empty_mask_have_no_healthy_side():
    healthy = symmetric_head()
    assert can_mirror(disc(0, 25, 8), healthy)
    assert not can_mirror(disc(0, 5, 12), healthy)
    assert not can_mirror(np.zeros_like(healthy, bool), healthy)
    assert not can_mirror(disc(0, 25, 8), np.where(X + Y > 0, healthy, 0.1 * healthy))
    assert not can_mirror(disc(0, 25, 8), np.zeros_like(healthy))
    assert remove_lesion(healthy, disc(0, 5, 12)) is None
    assert remove_lesion(healthy, np.zeros_like(healthy, bool)) is None


def test_a_pasted_tumour_moves_with_its_mask_and_takes_on_the_brightness_of_its_new_place():
    donor, mask = np.full((SIDE, SIDE), 0.3, np.float32), disc(0, 20, 9)
    donor[mask] = 0.6
    recipient = np.full((SIDE, SIDE), 0.45, np.float32)
    pasted, moved = paste_lesion(recipient, donor, mask, (-12, -40))
    np.testing.assert_array_equal(moved, np.roll(mask, (-12, -40), (0, 1)))
    np.testing.assert_allclose(pasted[moved], 0.9, rtol=1e-4)
    far = ndimage.distance_transform_edt(~moved) > 0.0625 * SIDE
    np.testing.assert_array_equal(pasted[far], recipient[far])
    np.testing.assert_allclose(recipient, 0.45)


def test_a_tumour_is_pasted_next_to_the_border_but_not_across_it():
    image, mask = np.full((SIDE, SIDE), 0.5, np.float32), disc(0, 0, 5)
    step = int(np.flatnonzero(mask.any(axis=1))[0])
    assert paste_lesion(image, image, mask, (-step, 0))[1].any(axis=1)[0]
    for shift in ((-step - 1, 0), (0, SIDE)):
        with pytest.raises(ValueError, match="leave the image"):
            paste_lesion(image, image, mask, shift)
    with pytest.raises(ValueError, match="must not be empty"):
        paste_lesion(image, image, np.zeros_like(mask), (0, 0))


@given(seed=st.integers(0, 2**32 - 1), radius=st.integers(2, 14), distance=st.sampled_from([0.0, 0.2]))
def test_a_chosen_place_lies_inside_the_head_and_away_from_the_old_one(seed: int, radius: int, distance: float):
    image, mask = symmetric_head(), disc(0, 25, radius)
    shift = choose_shift(image, mask, np.random.default_rng(seed), distance)
    assert shift is not None
    assert np.hypot(*shift) >= distance * SIDE
    _, moved = paste_lesion(image, image, mask, shift)
    assert head(image)[moved].all()
    assert shift == choose_shift(image, mask, np.random.default_rng(seed), distance)


def test_no_place_is_chosen_where_none_fits():
    rng = np.random.default_rng(0)
    assert choose_shift(symmetric_head(), disc(0, 0, 70), rng) is None
    assert choose_shift(np.zeros((SIDE, SIDE), np.float32), disc(0, 0, 5), rng) is None
    assert choose_shift(symmetric_head(), np.zeros((SIDE, SIDE), bool), rng) is None


def test_images_of_other_shapes_work():
    image = symmetric_head()[3:, :-8]
    mask = disc(-10, 20, 7)[3:, :-8]
    assert can_mirror(mask, image)
    assert remove_lesion(image, mask).shape == image.shape
