"""The brightness of a patient's tissues, and their texture."""

from __future__ import annotations

import numpy as np

from mri.data.phantom.anatomy import (
    BRAIN_START,
    ORIGIN,
    SHELL,
    SHELL_START,
    SOFT_START,
    SOFT_STEPS,
    Tissue,
    head,
    sample,
)
from mri.data.phantom.fields import ramp, smooth_field
from mri.data.phantom.geometry import Site

# Ranges of brightness on contrast-enhanced T1-weighted images, subcutaneous fat near 1; drawn for each patient.
BRIGHTNESS = {
    Tissue.AIR: (0.0, 0.02),
    Tissue.CSF: (0.10, 0.18),
    Tissue.BONE: (0.03, 0.08),
    Tissue.MARROW: (0.35, 0.75),
    Tissue.FAT: (0.80, 0.98),
    Tissue.SKIN: (0.45, 0.65),
    Tissue.MUSCLE: (0.28, 0.40),
    Tissue.MUCOSA: (0.45, 0.80),
    Tissue.VITREOUS: (0.10, 0.18),
    Tissue.NERVE: (0.40, 0.50),
    Tissue.GLAND: (0.60, 0.85),
    Tissue.CAROTID: (0.05, 0.15),
    Tissue.VENOUS: (0.60, 0.95),
    Tissue.DURA: (0.35, 0.65),
    Tissue.CORD: (0.40, 0.48),
    Tissue.TONGUE: (0.36, 0.50),
    Tissue.CAVERNOUS: (0.45, 0.70),
}
CSF_LEVEL, GREY_LEVEL, WHITE_LEVEL = 70, 140, 215  # template levels (after sharpening) of the pure tissues


def draw_table(rng: np.random.Generator) -> np.ndarray:
    """Draw one patient's brightness (float32, 0 to 1) of every code of the head map."""
    table = np.zeros(BRAIN_START + 256, np.float32)
    for tissue, (low, high) in BRIGHTNESS.items():
        table[tissue] = rng.uniform(low, high)
    # Most sphenoid sinuses contain air; fluid or swollen mucosa in some is a bright distractor on the midline.
    table[Tissue.SINUS] = rng.uniform(0.3, 0.75) if rng.random() < 0.2 else rng.uniform(0.0, 0.05)
    soft = slice(SOFT_START, SOFT_START + SOFT_STEPS)
    table[soft] = np.linspace(table[Tissue.MUSCLE], 0.75 * table[Tissue.FAT], SOFT_STEPS)
    table[SHELL_START : SHELL_START + SHELL] = _shell(rng, table)
    white = rng.uniform(0.44, 0.56)
    grey = white * rng.uniform(0.78, 0.90)
    levels = [CSF_LEVEL - 20, CSF_LEVEL + 10, GREY_LEVEL, WHITE_LEVEL]
    table[BRAIN_START:] = np.interp(np.arange(256), levels, [table[Tissue.CSF], table[Tissue.CSF], grey, white])
    return table


def _shell(rng: np.random.Generator, table: np.ndarray) -> np.ndarray:
    """Draw brightness by mm from the inner table, (SHELL,): bone with marrow, fat of 3 to 7 mm, skin, air."""
    bone = rng.uniform(4.0, 6.5)
    fat = bone + rng.uniform(3.0, 7.0)
    skin = fat + rng.uniform(1.5, 2.5)
    dark, marrow = float(table[Tissue.BONE]), rng.uniform(0.1, 0.45)
    borders = [
        *((0.3 * bone, dark), (0.5 * bone, marrow), (0.7 * bone, dark), (bone, dark)),
        *((bone + 0.8, table[Tissue.FAT]), (fat, table[Tissue.FAT])),
        *((fat + 0.8, table[Tissue.SKIN]), (skin, table[Tissue.SKIN])),
        (skin + 0.8, table[Tissue.AIR]),
    ]
    return np.interp(np.arange(SHELL) + 0.5, *np.array(borders).T)


def sample_tissue(table: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the brightness at template points (3, ...), interpolated between the `table`'s values of the voxels."""
    codes = head().codes
    low = [int(np.floor(p.min())) - o for p, o in zip(points, ORIGIN, strict=True)]
    high = [int(np.ceil(p.max())) - o + 1 for p, o in zip(points, ORIGIN, strict=True)]
    low = [min(max(first, 0), size - 1) for first, size in zip(low, codes.shape, strict=True)]
    box = tuple(slice(first, max(last, first + 1)) for first, last in zip(low, high, strict=True))
    return sample(table[codes[box]], points, ORIGIN + low)


def add_texture(rng: np.random.Generator, image: np.ndarray, site: Site, csf: float) -> np.ndarray:
    """Return `image` (n, H, W) with unevenness everywhere, sulci near the surface of the brain, and enhancing vessels.

    The template, an average, has lost the sulci of single brains. Here they are the zero set of one random field, and
    vessels the curves where it meets the zero set of another: both continue from slice to slice, as real ones do.
    """
    axes, depth = site.slab.axes, site.depth
    image = image * (1 + 0.03 * smooth_field(rng, axes, 2.5) + 0.03 * smooth_field(rng, axes, 9.0))
    folds, crossing = smooth_field(rng, axes, 9.0), smooth_field(rng, axes, 13.0)
    sulci = ramp(depth, 1, 2) * ramp(depth, 14, 6) * ramp(np.abs(folds), 0.2, 0.06)
    image += 0.75 * sulci * np.minimum(csf - image, 0)
    vessels = ramp(depth, 0, 1) * ramp(depth, 26, 20) * ramp(np.hypot(folds / 0.16, crossing / 0.11), 1.5, 0.5)
    return image + vessels * np.maximum(rng.uniform(0.6, 0.9) - image, 0)
