import functools

import numpy as np
import pytest
from scipy import ndimage

from mri.explanation import perturbation

SIDE = 20
RNG = np.random.default_rng(0)
IMAGE = RNG.random((1, 1, SIDE, SIDE), dtype=np.float32)
MASK = np.zeros((1, SIDE, SIDE), bool)
MASK[0, 4:8, 5:15] = True  # 40 of 400 pixels: p = 0.1, a multiple of the step
P = 0.1
TARGET = np.array([1])


def kept_share(images: np.ndarray) -> np.ndarray:
    """A toy network: the probability of class 1 is the share of the mask's pixels that are the image's own."""
    share = (images == IMAGE)[:, 0][:, MASK[0]].mean(axis=1)
    return np.stack([1 - share, share], axis=1)


def likeness(images: np.ndarray) -> np.ndarray:
    """A toy network: 1 less the mean change of the mask's pixels."""
    share = 1 - np.abs(images - IMAGE)[:, 0][:, MASK[0]].mean(axis=1)
    return np.stack([1 - share, share], axis=1)


def test_perfect_map_deletes_and_inserts_at_the_known_areas():
    curves = perturbation.deletion_insertion(kept_share, IMAGE, MASK.astype(float), TARGET)
    np.testing.assert_allclose(curves.deletion_area, [P / 2])
    np.testing.assert_allclose(curves.insertion_area, [1 - P / 2])
    np.testing.assert_allclose(curves.fraction, np.linspace(0, 1, 21))
    np.testing.assert_allclose(curves.deletion[0, :4], [1, 0.5, 0, 0])
    np.testing.assert_allclose(curves.insertion[0, :4], [0, 0.5, 1, 1])


def test_one_curve_ends_where_the_other_begins_and_no_image_is_asked_about_twice():
    asked = []

    def kept(images: np.ndarray) -> np.ndarray:
        asked.extend(image.tobytes() for image in images)
        return kept_share(images)

    curves = perturbation.deletion_insertion(kept, IMAGE, RNG.random(MASK.shape), TARGET, steps=5)
    assert curves.deletion[0, -1] == curves.insertion[0, 0] and curves.insertion[0, -1] == curves.deletion[0, 0]
    assert len(asked) == len(set(asked)) == 2 * 5


def test_inverted_map_deletes_and_inserts_at_the_opposite_areas():
    curves = perturbation.deletion_insertion(kept_share, IMAGE, (~MASK).astype(float), TARGET)
    np.testing.assert_allclose(curves.deletion_area, [1 - P / 2])
    np.testing.assert_allclose(curves.insertion_area, [P / 2])


@pytest.mark.parametrize("maps", [np.zeros_like, np.ones_like, lambda _: RNG.random((30, SIDE, SIDE))])
def test_uninformative_maps_score_one_half(maps):
    many = np.repeat(IMAGE, 30, axis=0)
    curves = perturbation.deletion_insertion(kept_share, many, maps(many[:, 0]), np.ones(30, int))
    assert curves.deletion_area.mean() == pytest.approx(0.5, abs=0.03)
    assert curves.insertion_area.mean() == pytest.approx(0.5, abs=0.03)


def test_blur_has_a_sigma_of_a_tenth_of_the_side():
    np.testing.assert_allclose(perturbation.blur(IMAGE)[0, 0], ndimage.gaussian_filter(IMAGE[0, 0], 2), rtol=1e-5)


def test_each_image_is_asked_about_its_own_target():
    def first_pixel(images: np.ndarray) -> np.ndarray:
        value = images[:, 0, 0, 0]
        return np.stack([value, 1 - value], axis=1)

    images = np.concatenate([IMAGE, IMAGE])
    curves = perturbation.deletion_insertion(first_pixel, images, images[:, 0], np.array([0, 1]), batch_size=5)
    np.testing.assert_allclose(curves.deletion[:, 0], [IMAGE[0, 0, 0, 0], 1 - IMAGE[0, 0, 0, 0]])


def test_prediction_runs_in_batches_and_they_change_nothing():
    sizes = []

    def counted(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return likeness(images)

    maps = RNG.random((1, SIDE, SIDE))
    few = perturbation.road(counted, IMAGE, maps, TARGET, batch_size=4)
    assert max(sizes) == 4
    assert sum(sizes) == 18
    np.testing.assert_array_equal(few.combined, perturbation.road(likeness, IMAGE, maps, TARGET).combined)


def test_ties_are_ranked_by_the_seed_and_not_by_position():
    first, again, other = (perturbation.removal_rank(np.zeros((40, 40)), (seed,)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert abs(np.corrcoef(first, np.arange(1600))[0, 1]) < 0.1
    np.testing.assert_array_equal(np.sort(first), np.arange(1600))


def test_the_most_relevant_pixel_goes_first():
    np.testing.assert_array_equal(perturbation.removal_rank(np.array([[0.2, 0.9], [0.5, -3]]), (0,)), [2, 0, 1, 3])


def test_road_is_positive_for_the_perfect_map_and_negative_for_its_inverse():
    good = perturbation.road(likeness, IMAGE, MASK.astype(float), TARGET)
    bad = perturbation.road(likeness, IMAGE, (~MASK).astype(float), TARGET)
    assert good.combined[0] > 0.05
    assert bad.combined[0] < -0.05
    assert good.most_first.shape == good.least_first.shape == (1, 9)
    # all of the mask is gone at 10 % one way, and whole at 90 % the other way
    assert good.least_first[0, -1] == 1
    assert good.most_first[0, 0] < 0.9


def test_road_is_zero_for_random_maps():
    many = np.repeat(IMAGE, 60, axis=0)
    combined = perturbation.road(likeness, many, RNG.random((60, SIDE, SIDE)), np.ones(60, int)).combined
    assert abs(combined.mean()) < 4 * combined.std() / np.sqrt(60)


def test_road_is_seeded():
    maps = RNG.random((1, SIDE, SIDE))
    first, again, other = (perturbation.road(likeness, IMAGE, maps, TARGET, seed=s).combined for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_imputation_continues_a_ramp_and_keeps_the_rest():
    ramp = np.tile(np.arange(9.0), (9, 1))
    hole = np.zeros((9, 9), bool)
    hole[2:7, 3:6] = True
    np.testing.assert_allclose(perturbation.impute(np.where(hole, 99, ramp), hole), ramp, atol=1e-9)


def test_single_pixel_is_the_weighted_mean_of_its_neighbours():
    image, hole = np.zeros((5, 5)), np.zeros((5, 5), bool)
    hole[2, 2] = True
    image[2, 1], image[1, 1] = 6, 12
    assert perturbation.impute(image, hole)[2, 2] == pytest.approx(6 / 6 + 12 / 12)


@functools.cache
def holes(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a 97 x 130 image and a mask that removes 70 % of its pixels: speckle or blobs."""
    rng = np.random.default_rng(2)
    image = ndimage.gaussian_filter(rng.random((97, 130)), 2)
    image = (image - image.min()) / np.ptp(image)
    order = ndimage.gaussian_filter(rng.random(image.shape), {"speckle": 0, "blobs": 8}[kind])
    return image, order >= np.quantile(order, 0.3)


@pytest.mark.parametrize("kind", ["speckle", "blobs"])
def test_imputation_is_that_of_pytorch_grad_cam(kind):
    reference = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="pytorch-grad-cam is a test dependency")
    torch = pytest.importorskip("torch")
    image, removed = holes(kind)
    imputer = reference.NoisyLinearImputer(noise=0)
    expected = imputer(torch.tensor(image[None], dtype=torch.float32), torch.tensor(~removed, dtype=torch.float32))
    error = perturbation.impute(image, removed) - expected[0].numpy()
    assert np.abs(error).max() < 0.01  # the noise that ROAD adds on top
    assert np.sqrt((error**2).mean()) < 0.003


@pytest.mark.parametrize("kind", ["speckle", "blobs"])
def test_imputed_values_stay_within_the_known_ones(kind):
    image, removed = holes(kind)
    filled = perturbation.impute(image, removed)
    np.testing.assert_array_equal(filled[~removed], image[~removed])
    assert filled.min() >= image[~removed].min() - 0.01
    assert filled.max() <= image[~removed].max() + 0.01


def test_combined_score_is_that_of_pytorch_grad_cam(monkeypatch):
    reference = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="pytorch-grad-cam is a test dependency")
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(perturbation, "NOISE", 0)
    monkeypatch.setattr(reference.NoisyLinearImputer.__init__, "__defaults__", (0, reference.neighbors_weights))
    maps = RNG.random((1, SIDE, SIDE)).astype(np.float32)

    class Toy(torch.nn.Module):
        def forward(self, images):
            return torch.tensor(likeness(images.numpy()))

    mine = perturbation.road(likeness, IMAGE, maps, TARGET).combined
    theirs = reference.ROADCombined()(torch.tensor(IMAGE), maps, [lambda output: output[1]], Toy())
    np.testing.assert_allclose(mine, theirs, atol=2e-3)  # its percentiles may remove one pixel more or less
    assert abs(mine[0]) > 0.004


IMAGES = RNG.random((5, 1, 32, 32), dtype=np.float32)
TARGETS = np.zeros(5, int)


def steady(images: np.ndarray) -> np.ndarray:
    return np.tile([0.9, 0.1], (len(images), 1))


def the_image(images: np.ndarray, _) -> np.ndarray:
    return images[:, 0]


def test_map_that_ignores_the_image_is_insensitive():
    def explain(images, _):
        return np.ones((len(images), 32, 32))

    np.testing.assert_array_equal(perturbation.max_sensitivity(explain, steady, IMAGES, TARGETS), 0)


def test_unrelated_uniform_maps_change_by_the_root_of_one_half():
    rng = np.random.default_rng(0)
    sensitivity = perturbation.max_sensitivity(
        lambda images, _: rng.random((len(images), 32, 32)), steady, IMAGES, TARGETS
    )
    np.testing.assert_allclose(sensitivity, np.sqrt(0.5), atol=0.07)


def test_sensitivity_of_the_image_itself_is_the_noise_in_it():
    sensitivity = perturbation.max_sensitivity(the_image, steady, IMAGES, TARGETS, radius=0.06)
    norm = np.linalg.norm(IMAGES[:, 0], axis=(1, 2))
    np.testing.assert_allclose(sensitivity, 0.06 * np.sqrt(1024 / 3) / norm, rtol=0.05)


def test_sensitivity_equals_captums_where_no_draw_changes_the_class():
    import torch
    from captum.attr import Saliency
    from captum.metrics import sensitivity_max

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.Softplus(), torch.nn.Conv2d(4, 2, 3), torch.nn.Softplus(), torch.nn.Flatten()
    )
    saliency = Saliency(lambda images: network(images).pow(2).reshape(len(images), 2, -1).sum(2))

    def explain(images: np.ndarray, target: np.ndarray) -> np.ndarray:
        return saliency.attribute(torch.tensor(images, requires_grad=True), torch.tensor(target))[:, 0].numpy()

    draws = iter(np.random.default_rng(3).uniform(-0.1, 0.1, (6, *IMAGES.shape)))
    expected = sensitivity_max(
        saliency.attribute,
        torch.tensor(IMAGES, requires_grad=True),
        perturb_func=lambda images: images + torch.tensor(next(draws), dtype=torch.float32),
        n_perturb_samples=6,
        max_examples_per_batch=len(IMAGES),  # one draw of noise for all images at a time, as here
        target=torch.tensor(TARGETS),
    )
    sensitivity = perturbation.max_sensitivity(explain, steady, IMAGES, TARGETS, radius=0.1, draws=6, seed=3)
    np.testing.assert_allclose(sensitivity, expected.numpy(), rtol=1e-4)
    assert (sensitivity > 0.01).all()


def test_draws_that_change_the_class_do_not_count():
    def fickle(images: np.ndarray) -> np.ndarray:
        changed = ~np.isin(images.reshape(len(images), -1)[:, 0], IMAGES[:, 0, 0, 0])
        return np.stack([~changed, changed], axis=1)

    assert np.isnan(perturbation.max_sensitivity(the_image, fickle, IMAGES, TARGETS)).all()


def test_sensitivity_of_an_empty_map_is_not_defined():
    def explain(images, _):
        return np.zeros((len(images), 32, 32))

    assert np.isnan(perturbation.max_sensitivity(explain, steady, IMAGES, TARGETS)).all()


def test_the_largest_change_of_all_draws_counts():
    factors = iter([1.0, 1.1, 1.5, 1.2])
    sensitivity = perturbation.max_sensitivity(
        lambda images, _: next(factors) * IMAGES[:, 0].astype(np.float64), steady, IMAGES, TARGETS, draws=3
    )
    np.testing.assert_allclose(sensitivity, 0.5)
