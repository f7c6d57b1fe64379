import pytest
import torch
from pydantic import ValidationError

from mri.base.params import Augmentation
from mri.training.augmentation import augment, mix

OFF = dict.fromkeys(Augmentation.model_fields, 0.0)


def settings(**changes):
    return Augmentation(**(OFF | changes))


def scan():
    """Return two images whose left and right, top and bottom differ."""
    image = torch.zeros(2, 1, 16, 16)
    image[:, :, 2:6, 3:8] = 0.5
    return image


def changed(seed=0, **changes):
    return augment(scan(), settings(**changes), torch.Generator().manual_seed(seed))


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
    moved = augment(image, settings(affine=1.0, translation=0.1), torch.Generator().manual_seed(0))
    rows, columns = torch.nonzero(moved.amax(dim=(0, 1)) > 0, as_tuple=True)
    for place in (rows, columns):
        assert place.min() >= 10 - 3 and place.max() <= 10 + 3  # 2 pixels, and one more for interpolation


def test_mixup_mixes_images_and_targets_alike():
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    targets = torch.eye(2)
    mixed, labels = mix(images, targets, settings(mixup=1.0), torch.Generator().manual_seed(3))
    assert torch.allclose(mixed[:, 0, 0, 0], labels[:, 1])
    assert torch.allclose(labels.sum(1), torch.ones(2))
    same, same_labels = mix(images, targets, settings(), torch.Generator().manual_seed(3))
    assert torch.equal(same, images) and torch.equal(same_labels, targets)


def test_cutmix_takes_a_window_of_another_image_and_its_share_of_the_targets():
    images = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
    windows = set()
    for seed in range(20):
        mixed, labels = mix(images.clone(), torch.eye(2), settings(cutmix=1.0), torch.Generator().manual_seed(seed))
        assert torch.allclose(mixed.mean((1, 2, 3)), labels[:, 1])
        windows.add(round(float(labels[0, 1]), 3))
    assert len(windows) > 5


def test_contrast_scales_grey_levels_about_the_mean():
    grey = 0.4 + 0.2 * scan()
    augmented = augment(grey.clone(), settings(intensity=1.0, contrast=0.3), torch.Generator().manual_seed(4))
    for before, after in zip(grey, augmented, strict=True):
        factor = (after.max() - after.min()) / (before.max() - before.min())
        assert abs(factor - 1) > 0.01
        assert torch.allclose(after - after.mean(), factor * (before - before.mean()), atol=1e-5)
        assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-5)


def test_more_than_one_kind_of_mixing_per_batch_is_refused():
    with pytest.raises(ValidationError, match="must not exceed 1 together"):
        settings(mixup=0.6, cutmix=0.5)
