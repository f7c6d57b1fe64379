"""Bright and dark structures that are no tumours, equally in every class, so that not every spot is a tumour."""

from __future__ import annotations

import numpy as np

from mri.data.phantom.fields import ramp, smooth_field
from mri.data.phantom.geometry import Site


def add_distractors(rng: np.random.Generator, image: np.ndarray, site: Site, csf: float) -> np.ndarray:
    """Return `image` (n, H, W) with small enhancing spots, lacunes or cysts, and patches of pale white matter."""
    for _ in range(rng.poisson(1.5)):
        image = _blob(rng, image, site, rng.uniform(1.5, 4.0), rng.uniform(0.6, 0.95))
    for _ in range(rng.poisson(0.6)):
        image = _blob(rng, image, site, rng.uniform(2.5, 8.0), csf)
    if rng.random() < 0.4:
        patches = ramp(smooth_field(rng, site.slab.axes, 22.0), 0.5, 1.5) * site.white
        image = image * (1 - rng.uniform(0.15, 0.35) * patches)
    return image


def _blob(rng: np.random.Generator, image: np.ndarray, site: Site, radius: float, value: float) -> np.ndarray:
    """Return `image` with a rounded spot of `radius` mm at a random place inside the skull."""
    k = rng.integers(len(image))
    rows, columns = np.nonzero(site.depth[k] > 1)
    pick = rng.integers(len(rows))
    centre = np.array([site.slab.axes[0][k], site.slab.axes[1][rows[pick]], site.slab.axes[2][columns[pick]]])
    stretch = rng.uniform(0.7, 1.3, 3)
    offsets = site.slab.offsets(centre)
    apart = np.sqrt(sum((offset / by) ** 2 for offset, by in zip(offsets, stretch, strict=True)))
    return image + ramp(apart, radius + 0.7, radius - 0.7) * (site.depth > 0.5) * (value - image)
