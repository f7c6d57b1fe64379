import numpy as np
import pytest
from scipy import ndimage

from mri.data.images import prepare
from mri.data.phantom import anatomy, geometry, rendering
from mri.evaluation.strange_images import FAR, MADE_UP, NEAR, groups_of, make_strange, slab_elsewhere

SIZE = 64
KINDS = [*FAR, *NEAR]


@pytest.fixture(scope="module")
def slices() -> np.ndarray:
    """Six synthetic slices of as many patients in all planes, uint8 (6, 64, 64)."""
    recipe = rendering.Recipe(1, 96, (13.0, 21.0), 1.0)
    patients = [rendering.render(recipe, "glioma", geometry.PLANES[k % 3], 0, k) for k in range(6)]
    return np.stack([prepare(scan.images[0], SIZE) for scan in patients])


@pytest.mark.parametrize("kind", KINDS)
def test_made_images_have_the_form_of_the_genuine_ones_and_differ_from_them(kind, slices):
    before = slices.copy()
    strange = make_strange(kind, slices, 0)
    assert (strange.shape, strange.dtype) == (slices.shape, np.uint8)
    assert all((new != old).mean() > 0.1 for new, old in zip(strange, slices, strict=True))
    np.testing.assert_array_equal(slices, before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_images_whatever_follows_them(kind, slices):
    np.testing.assert_array_equal(make_strange(kind, slices, 0)[:2], make_strange(kind, slices[:2], 0))


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"inverted", "upside_down"}))
def test_another_seed_gives_other_images(kind, slices):
    assert (make_strange(kind, slices, 0) != make_strange(kind, slices, 1)).any()


@pytest.mark.parametrize("kind", sorted(MADE_UP))
def test_made_up_images_take_only_number_and_size_from_the_genuine_ones(kind, slices):
    np.testing.assert_array_equal(make_strange(kind, slices, 0), make_strange(kind, np.zeros_like(slices), 0))


@pytest.mark.parametrize("kind", sorted({*KINDS} - MADE_UP))
def test_spoiled_images_hang_on_the_genuine_ones_and_belong_to_their_groups(kind, slices):
    assert (make_strange(kind, slices, 0) != make_strange(kind, slices[::-1], 0)).any(axis=(1, 2)).all()
    assert groups_of(kind, np.array(["a", "a", "b"])).tolist() == ["a", "a", "b"]


def test_made_up_images_belong_to_nobody():
    genuine_groups = np.array(["a", "a", "b"], object)
    strange_groups = np.concatenate([groups_of("noise", genuine_groups), groups_of("elsewhere", genuine_groups)])
    assert len({*strange_groups} - {*genuine_groups}) == 6


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"inverted", "upside_down", "blurred", "motion", "shuffled"}))
def test_images_of_one_kind_differ_from_each_other(kind, slices):
    strange = make_strange(kind, np.repeat(slices[:1], 8, axis=0), 0)
    assert len({image.tobytes() for image in strange}) >= 7


def test_far_images_are_what_their_names_say(slices):
    many = np.zeros((40, SIZE, SIZE), np.uint8)
    noise = make_strange("noise", many, 0)
    assert np.bincount(noise.ravel(), minlength=256) == pytest.approx(np.full(256, noise.size / 256), rel=0.25)
    assert (np.ptp(make_strange("blank", many, 0), axis=(1, 2)) == 0).all()
    gradient = make_strange("gradient", many, 0).astype(int)
    assert (np.ptp(gradient, axis=(1, 2)) > 50).all()
    assert np.abs(np.diff(gradient, axis=1)).max() <= 8
    shapes = make_strange("shapes", many, 0)
    plain = (shapes[:, 1:] == shapes[:, :-1]).mean((1, 2))
    assert plain.min() > 0.7  # equal to the pixel above it
    text = make_strange("text", many, 0)
    assert (np.ptp(text, axis=(1, 2)) > 100).all()


def test_near_images_are_what_their_names_say(slices):
    inverted = make_strange("inverted", slices, 0)
    np.testing.assert_array_equal(inverted, 255 - slices)
    changed = np.abs(make_strange("upside_down", slices, 0).astype(int) - slices[:, ::-1])
    assert (changed > 3).mean() < 0.01  # but for a row that the crop to content moves
    noise = make_strange("noise", slices, 0)  # no dark border that the crop to content could take away
    shuffled = make_strange("shuffled", noise, 0)
    assert all(
        np.sort(new, axis=None).tolist() == np.sort(old, axis=None).tolist()
        for new, old in zip(shuffled, noise, strict=True)
    )
    for sharp, blurred in zip(slices, make_strange("blurred", slices, 0), strict=True):
        assert detail(blurred) < 0.1 * detail(sharp)


def detail(image: np.ndarray) -> float:
    return float(np.abs(ndimage.laplace(image.astype(float))).mean())


def test_motion_keeps_the_energy_of_the_picture_but_moves_it(slices):
    still, moved = slices.astype(float), make_strange("motion", slices, 0).astype(float)
    assert (moved**2).sum() == pytest.approx((still**2).sum(), rel=0.1)
    assert np.abs(moved - still).mean() > 5


def test_slices_elsewhere_hold_next_to_no_brain():
    rng = np.random.default_rng(0)
    brain = (anatomy.head().codes >= anatomy.BRAIN_START).astype(np.float32)
    elsewhere = [anatomy.sample(brain, slab_elsewhere(rng, 32).points).mean() for _ in range(30)]
    usual = [anatomy.sample(brain, geometry.draw_slab(rng, "axial", 1, 32, 1.0).points).mean() for _ in range(5)]
    assert max(elsewhere) < 0.1 < 0.15 < min(usual)


def test_an_unknown_kind_is_refused(slices):
    with pytest.raises(KeyError):
        make_strange("holiday", slices, 0)
