import pytest
import torch

from mri.base.params import Augmentation
from mri.training.augmentation import Labels, augment, mix

OFF = dict.fromkeys(Augmentation.model_fields, 0.0)


def settings(**changes):
    return Augmentation(**(OFF | changes))


def scan():
    """Return two images whose left and right, top and bottom differ."""
    image = torch.zeros(2, 1, 16, 16)
    image[:, :, 2:6, 3:8] = 0.5
    return image


def changed(seed=0, **changes):
    images = scan()
    return augment(images, torch.zeros_like(images), settings(**changes), torch.Generator().manual_seed(seed))[0]


def test_nothing_changes_when_everything_is_off():
    assert torch.allclose(changed(), scan(), atol=1e-6)


def test_flip_mirrors_left_and_right_and_never_top_and_bottom():
    assert torch.allclose(changed(flip=1.0), scan().flip(3), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"affine": 1.0, "rotation_degrees": 20.0},
        {"affine": 1.0, "zoom": 0.3},
        {"affine": 1.0, "translation": 0.2},
        {"elastic": 1.0, "elastic_displacement": 0.05},
        {"intensity": 1.0, "gamma": 0.5},
        {"intensity": 1.0, "bias": 0.5},
        {"tone": 1.0},
        {"blur": 1.0, "blur_sigma": 0.05},
        {"noise": 1.0, "noise_sigma": 0.2},
    ],
)
def test_each_change_changes_the_image_reproducibly_and_within_range(change):
    once, again, other = changed(1, **change), changed(1, **change), changed(2, **change)
    assert torch.equal(once, again)
    assert not torch.allclose(once, scan(), atol=1e-3)
    assert not torch.allclose(once, other, atol=1e-3)
    assert once.min() >= 0 and once.max() <= 1
    assert not torch.allclose(once[0], once[1], atol=1e-3), "images of a batch must change independently"


def test_translation_stays_within_its_share_of_the_side():
    image = torch.zeros(64, 1, 20, 20)
    image[:, :, 10, 10] = 1
    moved, _ = augment(image, image, settings(affine=1.0, translation=0.1), torch.Generator().manual_seed(0))
    rows, columns = torch.nonzero(moved.amax(dim=(0, 1)) > 0, as_tuple=True)
    for place in (rows, columns):
        assert place.min() >= 10 - 3 and place.max() <= 10 + 3  # 2 pixels, and one more for interpolation


def test_outlines_move_with_the_images_and_keep_their_grey_levels():
    images = scan()
    outlines = (images > 0).float()
    everything = {"flip": 0.5, "affine": 1.0, "rotation_degrees": 20.0, "zoom": 0.2, "translation": 0.1}
    moved, tumours = augment(images, outlines, settings(**everything), torch.Generator().manual_seed(5))
    assert torch.allclose(moved, 0.5 * tumours, atol=1e-6) and not torch.allclose(tumours, outlines, atol=0.1)
    noisy = settings(noise=1.0, noise_sigma=0.3, tone=1.0, blur=1.0, blur_sigma=0.05)
    _, kept = augment(images, outlines, noisy, torch.Generator().manual_seed(5))
    assert torch.allclose(kept, outlines, atol=1e-6)


def test_mixup_mixes_images_and_says_what_share_each_has():
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    labels = Labels(1.0, torch.tensor([0, 1]), images.clone())
    mixed, parts = mix(images, labels, 1.0, torch.Generator().manual_seed(3))
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert torch.allclose(mixed[:, 0, 0, 0], sum(part.share * part.classes for part in parts))
    assert torch.allclose(mixed, sum(part.share * part.outlines for part in parts))
    same, (alone,) = mix(images, labels, 0.0, torch.Generator().manual_seed(3))
    assert torch.equal(same, images) and alone is labels


def test_curves_of_grey_levels_keep_black_and_what_was_equal():
    steps = torch.linspace(0, 1, 15).repeat(64, 1, 3, 1)
    toned = augment(steps, torch.zeros_like(steps), settings(tone=1.0), torch.Generator().manual_seed(0))[0]
    assert not toned[..., 0].any() and torch.equal(toned[:, :, 0], toned[:, :, 2])
    falling = (toned[:, 0, 0].diff(dim=1) < 0).any(1).float().mean()
    assert 0.3 < falling < 0.95  # a curve that rises everywhere keeps the order of tissues


def test_blur_is_gaussian_and_each_image_has_its_own():
    points = torch.zeros(8, 1, 65, 65)
    points[..., 32, 32] = 1
    generator = torch.Generator().manual_seed(0)
    blurred, _ = augment(points, points, settings(blur=1.0, blur_sigma=0.05), generator)
    assert torch.allclose(blurred.sum((1, 2, 3)), torch.ones(8), atol=1e-3)
    offsets = (torch.arange(65) - 32) ** 2
    sigmas = (blurred[:, 0].sum(1) * offsets).sum(1).sqrt()
    assert len(sigmas.round(decimals=2).unique()) == 8 and sigmas.max() < 0.05 * 65


def test_contrast_scales_grey_levels_about_the_mean():
    grey = 0.4 + 0.2 * scan()
    generator = torch.Generator().manual_seed(4)
    augmented, _ = augment(grey.clone(), grey, settings(intensity=1.0, contrast=0.3), generator)
    for before, after in zip(grey, augmented, strict=True):
        factor = (after.max() - after.min()) / (before.max() - before.min())
        assert abs(factor - 1) > 0.01
        assert torch.allclose(after - after.mean(), factor * (before - before.mean()), atol=1e-5)
        assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-5)
