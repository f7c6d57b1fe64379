"""Random augmentation of whole batches of training images, as tensors.

The changes of all images are drawn from one generator on the images' device, so the same generator state gives the same
batch. Geometry (flip, rotation, zoom, translation, elastic) is one sampling grid and one interpolation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from mri.base.params import Augmentation


def augment(images: torch.Tensor, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Augment images, float32 (N, 1, H, W) in [0, 1], keeping shape and range."""
    images = _geometry(images, settings, generator)
    images = _intensity(images, settings, generator)
    return images.clamp_(0, 1)


def mix(
    images: torch.Tensor, targets: torch.Tensor, settings: Augmentation, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix the images of a batch: MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019), as `settings` ask.

    Both draw the share of the second image from Beta(0.2, 0.2). targets: float32 (N, C), probabilities.
    """
    draw, mixup = float(torch.rand((), generator=generator, device=generator.device)), settings.mixup
    if draw >= mixup + settings.cutmix:
        return images, targets
    share = float(_beta(0.2, generator))
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    if draw < mixup:
        return images.lerp(images[order], share), targets.lerp(targets[order], share)
    rows, columns = _window(images.shape[-1], share, generator)
    images[..., rows, columns] = images[order][..., rows, columns]
    cut = (rows.stop - rows.start) * (columns.stop - columns.start) / images.shape[-1] ** 2
    return images, targets.lerp(targets[order], cut)


def _window(side: int, share: float, generator: torch.Generator) -> tuple[slice, slice]:
    """Return a square with `share` of an image's area around a random point, clipped at the image's edges."""
    half = round(side * math.sqrt(share) / 2)
    y, x = (int(torch.randint(side, (), generator=generator, device=generator.device)) for _ in range(2))
    return slice(max(0, y - half), min(side, y + half)), slice(max(0, x - half), min(side, x + half))


def _uniform(n: int, reach: float, generator: torch.Generator) -> torch.Tensor:
    """Return (N,) uniform in [-reach, reach]."""
    return (2 * torch.rand(n, generator=generator, device=generator.device) - 1) * reach


def _selected(n: int, probability: float, generator: torch.Generator) -> torch.Tensor:
    """Return (N,) of 0.0 and 1.0, the latter with the given probability."""
    return (torch.rand(n, generator=generator, device=generator.device) < probability).float()


def _beta(alpha: float, generator: torch.Generator) -> torch.Tensor:
    """Draw from Beta(alpha, alpha) by Jöhnk's method, which needs only uniform numbers."""
    while True:
        x, y = torch.rand(2, generator=generator, dtype=torch.float64, device=generator.device).pow(1 / alpha)
        if 0 < x + y <= 1:
            return x / (x + y)


def _geometry(images: torch.Tensor, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    n = len(images)
    moved = _selected(n, settings.affine, generator)
    angle = _uniform(n, math.radians(settings.rotation_degrees), generator) * moved
    scale = 1 + _uniform(n, settings.zoom, generator) * moved
    shift = torch.stack([_uniform(n, 2 * settings.translation, generator) * moved for _ in range(2)], 1)
    mirror = 1 - 2 * _selected(n, settings.flip, generator)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    matrix = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).view(n, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    grid = grid + _elastic(images.shape, settings, generator)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _elastic(shape: torch.Size, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Return smooth random displacements (N, H, W, 2) in the grid's units: a 5x5 field, enlarged bicubically."""
    n, _, height, width = shape
    field = _uniform(n * 2 * 25, 2 * settings.elastic_displacement, generator).view(n, 2, 5, 5)
    field = field * _selected(n, settings.elastic, generator).view(n, 1, 1, 1)
    return F.interpolate(field, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def _intensity(images: torch.Tensor, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Apply gamma, contrast around the image's mean, a smooth bias field and white noise."""
    n = len(images)

    def factor(reach: float, *shape: int) -> torch.Tensor:
        selected = _selected(n, settings.intensity, generator).view(n, 1, 1, 1)
        return torch.exp(_uniform(n * math.prod(shape), reach, generator).view(n, 1, *shape) * selected)

    images = images.clamp(0, 1).pow(factor(settings.gamma, 1, 1))
    mean = images.mean((2, 3), keepdim=True)
    images = (images - mean) * factor(settings.contrast, 1, 1) + mean
    field = F.interpolate(factor(settings.bias, 3, 3), images.shape[2:], mode="bicubic", align_corners=True)
    images = images * field
    sigma = (
        torch.rand(n, generator=generator, device=generator.device)
        * settings.noise_sigma
        * _selected(n, settings.noise, generator)
    )
    noisy = torch.randn(images.shape, generator=generator, device=generator.device)
    return images.add_(noisy.mul_(sigma.view(n, 1, 1, 1)))
