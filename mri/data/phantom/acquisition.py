"""From tissue to picture: the effects of the scanner and of the export to 8 bit."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mri.data.phantom.fields import smooth_field
from mri.data.phantom.geometry import Slab


def acquire(rng: np.random.Generator, image: np.ndarray, slab: Slab) -> np.ndarray:
    """Return `image` (n, H, W), brightness 0 to 1, as a scanner would show it, uint8.

    Blur of 0.4 to 0.8 pixels, bias field of about 8 % that varies over 90 mm, a ghost of up to 3 % shifted by half the
    picture, Rician noise of 1 to 3.5 % of fat, gamma 0.85 to 1.2 and a random window. Nothing depends on the picture,
    so a tumour cannot change the look of the rest.
    """
    blur = rng.uniform(0.4, 0.8)
    image = ndimage.gaussian_filter(image, (0, blur, blur))
    image *= np.clip(1 + 0.08 * smooth_field(rng, slab.axes, 90.0), 0.7, 1.3)
    image = _ghost(rng, image)
    sigma = rng.uniform(0.01, 0.035)
    noise = rng.standard_normal((2, *image.shape), dtype=np.float32)
    image = np.hypot(image + sigma * noise[0], sigma * noise[1])
    image = rng.uniform(0.8, 1.1) * np.clip(image, 0, None) ** rng.uniform(0.85, 1.2)
    return np.clip(np.round(255 * image), 0, 255).astype(np.uint8)


def _ghost(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add a ghost, as from scaling every second line of k-space: a faint copy half a picture away in phase direction.

    Source: Zhuo and Gullapalli, RadioGraphics 26(1), 2006.
    """
    axis = int(rng.integers(1, 3))
    strength = rng.uniform(0, 0.03)
    return (1 - strength) * image + strength * np.roll(image, image.shape[axis] // 2, axis=axis)
