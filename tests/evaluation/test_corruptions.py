import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics

from mri.evaluation.corruptions import CORRUPTIONS, corrupt, curves

SEVERITIES = range(1, 6)
SIDE = 64


def heads(n: int) -> np.ndarray:
    """Return different textured discs off the centre, on black; uint8 (n, 64, 64)."""
    random = np.random.default_rng(0)
    y, x = np.indices((SIDE, SIDE)) - SIDE / 2
    discs = np.stack([np.hypot(x - 5, y - 3 * i) < 20 for i in range(n)])
    texture = ndimage.gaussian_filter(random.normal(size=discs.shape), (0, 1, 1))
    return np.rint(discs * np.clip(110 + 150 * texture, 20, 230)).astype(np.uint8)


IMAGES = heads(3)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_zero_changes_nothing(name):
    np.testing.assert_array_equal(corrupt(IMAGES, name, 0), IMAGES)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_severity_changes_more_than_the_one_before(name):
    changes = [np.abs(corrupt(IMAGES, name, s).astype(int) - IMAGES).mean() for s in range(6)]
    assert changes[0] == 0
    assert (np.diff(changes) > 0).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_same_arguments_give_the_same_images_and_leave_the_originals_alone(name):
    before = IMAGES.copy()
    first = corrupt(IMAGES, name, 3)
    assert (first.dtype, first.shape) == (np.uint8, IMAGES.shape)
    np.testing.assert_array_equal(first, corrupt(IMAGES, name, 3))
    np.testing.assert_array_equal(first[:1], corrupt(IMAGES[:1], name, 3))  # whatever comes after
    np.testing.assert_array_equal(IMAGES, before)


@pytest.mark.parametrize("name", ["noise", "bias_field", "rotation", "gamma"])
def test_another_seed_gives_other_images(name):
    many = np.repeat(IMAGES, 4, axis=0)
    assert (corrupt(many, name, 4, seed=0) != corrupt(many, name, 4, seed=1)).any()


def test_a_corruption_or_severity_that_there_is_not_is_refused():
    with pytest.raises(KeyError):
        corrupt(IMAGES, "snow", 1)
    for severity in (-1, 6):
        with pytest.raises(ValueError, match="severity must be 0 to 5"):
            corrupt(IMAGES, "noise", severity)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_is_rician(severity):
    sigma = 255 * CORRUPTIONS["noise"].strengths[severity - 1]
    black = corrupt(np.zeros((1, 256, 256), np.uint8), "noise", severity)
    assert black.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)  # Rayleigh
    grey = corrupt(np.full((1, 256, 256), 64, np.uint8), "noise", severity).astype(float)
    assert (grey**2).mean() == pytest.approx(64**2 + 2 * sigma**2, rel=0.02)  # second moment of Rice


def test_noise_keeps_its_pattern_from_one_severity_to_the_next():
    grey = np.full((1, SIDE, SIDE), 128, np.uint8)
    faint, strong = (corrupt(grey, "noise", s).astype(float).ravel() - 128 for s in (1, 3))
    assert np.corrcoef(faint, strong)[0, 1] > 0.98


def test_blur_is_gaussian_in_shares_of_the_side():
    sigma = CORRUPTIONS["blur"].strengths[4] * SIDE
    np.testing.assert_allclose(
        corrupt(IMAGES, "blur", 5)[0], ndimage.gaussian_filter(IMAGES[0] * 1.0, sigma), atol=0.51
    )


def test_bias_field_is_a_smooth_factor_of_the_given_spread():
    many = np.full((200, SIDE, SIDE), 40, np.uint8)
    field = np.log(corrupt(many, "bias_field", 2) / 40)
    assert field.std() == pytest.approx(CORRUPTIONS["bias_field"].strengths[1], rel=0.1)
    assert np.abs(np.diff(field, axis=1)).max() < 0.1 * np.ptp(field)
    black = np.zeros((1, SIDE, SIDE), np.uint8)
    np.testing.assert_array_equal(corrupt(black, "bias_field", 5), black)


def test_rotation_turns_about_the_centre_to_either_side():
    dot = np.zeros((20, 65, 65), np.uint8)
    dot[:, 30:35, 50:55] = 200  # 20 pixels to the right of the centre
    turned = corrupt(dot, "rotation", 4)
    places = np.array([ndimage.center_of_mass(image) for image in turned])
    angles = np.degrees(np.arctan2(places[:, 0] - 32, places[:, 1] - 32))
    np.testing.assert_allclose(np.abs(angles), 30, atol=0.5)
    assert len(np.unique(np.sign(angles))) == 2
    np.testing.assert_allclose(np.hypot(*(places - 32).T), 20, atol=0.2)


def test_contrast_draws_grey_levels_to_their_mean():
    image = np.array([[[0, 100], [100, 200]]], np.uint8)
    np.testing.assert_array_equal(corrupt(image, "contrast", 2), [[[40, 100], [100, 160]]])


def test_gamma_darkens_or_brightens_by_the_same_power():
    grey = np.full((20, 2, 2), 64, np.uint8)
    assert set(np.unique(corrupt(grey, "gamma", 3))) == {round(255 * (64 / 255) ** 2), round(255 * (64 / 255) ** 0.5)}


def test_jpeg_keeps_a_plain_image_and_the_size_of_any():
    plain = np.full((1, 17, 17), 128, np.uint8)
    np.testing.assert_array_equal(corrupt(plain, "jpeg", 5), plain)


def brightness(pixels: np.ndarray) -> np.ndarray:
    """A toy network: predicts class 1 for images with a bright mean."""
    bright = pixels.mean((1, 2)) > 100
    return np.stack([~bright, bright], axis=1).astype(np.float32)


def test_curves_tell_what_hurts_a_network_from_what_does_not():
    pixels = np.concatenate([np.full((10, 16, 16), 90), np.full((10, 16, 16), 110)]).astype(np.uint8)
    labels = np.repeat([0, 1], 10)
    table = curves(brightness, pixels, labels, np.arange(20), resamples=200)
    assert list(table["corruption"].unique()) == list(CORRUPTIONS)
    assert table["severity"].tolist() == [*range(6)] * len(CORRUPTIONS)
    accuracy = table.pivot(index="severity", columns="corruption", values="accuracy")
    assert (accuracy.loc[0] == 1).all()
    assert (accuracy[["blur", "jpeg", "contrast"]] == 1).all(axis=None)
    assert accuracy.loc[5, "gamma"] == pytest.approx(0.5, abs=0.3)
    assert accuracy.loc[5, "rotation"] < 1  # black corners


def test_scores_are_those_of_scikit_learn_with_intervals_around_them():
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 255, (60, 8, 8)).astype(np.uint8), random.integers(0, 3, 60)
    logits = np.eye(4)[np.where(random.random(60) < 0.7, labels, 0)]  # the fourth class never occurs
    table = curves(lambda _: logits, pixels, labels, np.arange(60) // 2, ["noise"], resamples=300)
    assert len(table) == 6
    row = table.iloc[2]
    assert row["accuracy"] == pytest.approx(metrics.accuracy_score(labels, logits.argmax(1)))
    assert row["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, logits.argmax(1)))
    for name in ("accuracy", "balanced_accuracy"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]


def test_the_network_sees_each_corrupted_image_once():
    seen = []

    def predict(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels)
        return np.zeros((len(pixels), 2))

    curves(predict, IMAGES, np.array([0, 1, 0]), np.arange(3), ["blur", "jpeg"], resamples=10)
    assert len(seen) == 1 + 2 * 5
    np.testing.assert_array_equal(seen[0], IMAGES)
    np.testing.assert_array_equal(seen[-1], corrupt(IMAGES, "jpeg", 5))
