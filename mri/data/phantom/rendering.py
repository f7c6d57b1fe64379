"""Render one synthetic patient, from a seed to slices and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mri.data.phantom import acquisition, distractors, geometry, lesions, tissue
from mri.data.phantom.anatomy import Tissue


@dataclass(frozen=True)
class Recipe:
    """Settings common to all patients of a dataset.

    slices: per patient. canvas: side of a picture in pixels. radius: mm, least and most, of the circle with the area
    of a tumour's cross-section. coverage: distance from first to last slice, in such radii.
    """

    slices: int
    canvas: int
    radius: tuple[float, float]
    coverage: float


class Scan(NamedTuple):
    """images: uint8 (n, H, W). masks: bool (n, H, W), the tumour; all False without one."""

    images: np.ndarray
    masks: np.ndarray


def render(recipe: Recipe, kind: str, plane: str, seed: int, number: int, lesion: bool = True) -> Scan:
    """Render the slices of patient `number` of class `kind` (of lesions.CLASSES) in `plane` (of geometry.PLANES).

    Depends only on the arguments. Pose, contrast, texture, distractors, tumour and scanner have a random stream each,
    so `lesion=False` gives the same patient without the tumour.
    """
    entropy = np.random.SeedSequence(seed, spawn_key=(lesions.CLASSES.index(kind), number))
    pose, contrast, texture, clutter, growth, scanner = (np.random.default_rng(stream) for stream in entropy.spawn(6))
    radius = pose.uniform(*recipe.radius)
    slab = geometry.draw_slab(pose, plane, recipe.slices, recipe.canvas, recipe.coverage * radius)
    site = geometry.Site.of(slab, radius)
    tumour = lesions.draw_lesion(growth, kind, site) if lesion else None
    push = np.einsum("ab,b...->a...", slab.turn, tumour.push) if tumour else 0.0
    table = tissue.draw_table(contrast)
    csf = float(table[Tissue.CSF])
    image = tissue.sample_tissue(table, slab.points + push)
    image = tissue.add_texture(texture, image, site, csf)
    image = distractors.add_distractors(clutter, image, site, csf)
    image = tumour.paint(image) if tumour else image
    masks = tumour.mask if tumour else np.zeros(image.shape, bool)
    return Scan(acquisition.acquire(scanner, image, slab), masks)
