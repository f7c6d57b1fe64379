"""Random augmentation of whole batches of training images and their outlines, as tensors.

The changes of all images are drawn from one generator on the images' device, so the same generator state gives the same
batch. Geometry (flip, rotation, zoom, translation, elastic) is one sampling grid and one interpolation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from mri.base.params import Augmentation

KNOTS = 8  # of the curves of grey levels


def augment(
    images: torch.Tensor, outlines: torch.Tensor, settings: Augmentation, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment images, float32 (N, 1, H, W) in [0, 1], keeping shape and range, and move their outlines along.

    outlines: float32 (N, 1, H, W) in [0, 1], 0 where no tumour is outlined.
    """
    images, outlines = _geometry(torch.cat([images, outlines], 1), settings, generator).split(1, 1)
    images = _intensity(images, settings, generator)
    images = _blurred(images, settings, generator)
    return _noisy(images, settings, generator).clamp_(0, 1), outlines


class Labels(NamedTuple):
    """What a batch of images shows: for mixed images a `share` of it.

    classes: int64 (N,). outlines: float32 (N, 1, H, W), of the tumours, 0 where there is none.
    """

    share: float
    classes: torch.Tensor
    outlines: torch.Tensor


def mix(
    images: torch.Tensor, labels: Labels, probability: float, generator: torch.Generator
) -> tuple[torch.Tensor, list[Labels]]:
    """Mix the images of a batch in pairs (MixUp, Zhang et al. 2018) with the given probability.

    The share of the second image is from Beta(0.2, 0.2). Returns the images and what they show: the shares sum to 1.
    """
    if float(torch.rand((), generator=generator, device=generator.device)) >= probability:
        return images, [labels]
    share = float(_beta(0.2, generator))
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    second = Labels(share, labels.classes[order], labels.outlines[order])
    return images.lerp(images[order], share), [labels._replace(share=1 - share), second]


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
    """Apply a curve to the grey levels, gamma, contrast around the image's mean and a smooth bias field."""
    n = len(images)

    def factor(reach: float, *shape: int) -> torch.Tensor:
        selected = _selected(n, settings.intensity, generator).view(n, 1, 1, 1)
        return torch.exp(_uniform(n * math.prod(shape), reach, generator).view(n, 1, *shape) * selected)

    images = _toned(images.clamp(0, 1), settings, generator).pow(factor(settings.gamma, 1, 1))
    mean = images.mean((2, 3), keepdim=True)
    images = (images - mean) * factor(settings.contrast, 1, 1) + mean
    field = F.interpolate(factor(settings.bias, 3, 3), images.shape[2:], mode="bicubic", align_corners=True)
    return images * field


def _toned(images: torch.Tensor, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Apply random curves to the grey levels: straight lines between KNOTS levels, with black staying black.

    Each curve is the identity mixed with random levels; a large share of these makes it fall in places, as between
    contrasts in which other tissues are bright.
    """
    n = len(images)
    share = torch.rand(n, 1, generator=generator, device=generator.device)
    share = share * _selected(n, settings.tone, generator).view(n, 1)
    levels = torch.rand(n, KNOTS, generator=generator, device=generator.device)
    curves = torch.linspace(0, 1, KNOTS, device=images.device).lerp(levels, share)
    curves[:, 0] = 0
    position = images.reshape(n, -1) * (KNOTS - 1)
    lower = position.long().clamp_(max=KNOTS - 2)
    low, high = curves.gather(1, lower), curves.gather(1, lower + 1)
    return low.lerp(high, position - lower).view_as(images)


def _blurred(images: torch.Tensor, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Blur each image by a Gaussian of its own width, as a lower resolution would."""
    n, _, height, width = images.shape
    sigma = torch.rand(n, 1, generator=generator, device=generator.device)
    sigma = sigma * settings.blur_sigma * width * _selected(n, settings.blur, generator).view(n, 1)
    reach = math.ceil(2 * settings.blur_sigma * width)
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).view(n, 1, 1, -1)
    # Images as channels: one convolution with a kernel of its own for each.
    rows = F.conv2d(images.view(1, n, height, width), kernels, padding=(0, reach), groups=n)
    return F.conv2d(rows, kernels.transpose(2, 3), padding=(reach, 0), groups=n).view_as(images)


def _noisy(images: torch.Tensor, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Add white noise, of a strength of its own to each image."""
    n = len(images)
    sigma = torch.rand(n, generator=generator, device=generator.device) * settings.noise_sigma
    sigma = sigma * _selected(n, settings.noise, generator)
    return images + torch.randn(images.shape, generator=generator, device=generator.device) * sigma.view(n, 1, 1, 1)
