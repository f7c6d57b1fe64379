"""Positions of the pixels of a synthetic patient's slices in the template: plane, slab, pose and warp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mri.data.phantom.anatomy import SELLA, head, sample
from mri.data.phantom.fields import Axes, refine, smooth_field

# Directions in which slices, rows and columns run, in template axes (x right, y front, z up). Axial and coronal are
# shown as radiologists see them, the patient's right on the left; sagittal slices look to the left.
DIRECTIONS = {
    "axial": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
}
PLANES = tuple(DIRECTIONS)
# mm from the sella to the middle of the picture, along rows and columns, so that the head is centred.
CENTRES = {"axial": (18.0, 0.0), "coronal": (-13.0, 0.0), "sagittal": (-13.0, 8.0)}
# mm from the sella to the middle slice. The range is the same for every class, so that position reveals nothing, and
# small enough for a pituitary tumour to be within reach.
OFFSETS = {"axial": (-5.0, 9.0), "coronal": (-5.0, 5.0), "sagittal": (-5.0, 5.0)}
FIELD_OF_VIEW = (220.0, 250.0)  # mm, side of the picture


@dataclass(frozen=True)
class Slab:
    """Neighbouring slices of one patient.

    plane: axial, coronal or sagittal.
    pixel: mm per pixel.
    axes: mm along slices, rows and columns; zero is the patient's point nearest to the sella on the middle slice.
    turn: (3, 3), takes a direction in the slab to one in the template.
    points: (3, n, H, W), the template coordinates of every pixel in mm.
    """

    plane: str
    pixel: float
    axes: Axes
    turn: np.ndarray
    points: np.ndarray

    @property
    def middle(self) -> int:
        """Number of the middle slice."""
        return len(self.axes[0]) // 2

    def offsets(self, centre: np.ndarray) -> Axes:
        """Return slice, row and column distances in mm from `centre` (slab coordinates, (3,)) as open grids."""
        slices, rows, columns = (axis - c for axis, c in zip(self.axes, centre, strict=True))
        return slices[:, None, None], rows[:, None], columns

    def distance(self, centre: np.ndarray) -> np.ndarray:
        """Return every pixel's distance in mm from `centre` (slab coordinates, (3,)), (n, H, W)."""
        return np.sqrt(sum(offset**2 for offset in self.offsets(centre)))


@dataclass(frozen=True)
class Site:
    """A slab with the properties of the head that tumours and distractors depend on, (n, H, W) each.

    depth: mm below the inner table of the skull, negative outside; white: white-matter probability, 0 to 1.
    radius: mm, of the circle with the area that a tumour of this patient has on the middle slice.
    """

    slab: Slab
    depth: np.ndarray
    white: np.ndarray
    radius: float

    @classmethod
    def of(cls, slab: Slab, radius: float) -> Site:
        """Sample the head at the pixels of `slab`."""
        # Both vary slowly enough for every second row and column; full sampling would be a third of all the work.
        coarse, shape = slab.points[:, :, ::2, ::2], slab.points.shape[1:]
        depth, white = (refine(sample(volume, coarse), shape) for volume in (head().depth, head().white))
        return cls(slab, depth / 100, white / 255, radius)

    @property
    def area(self) -> float:
        """The tumour's area on the middle slice in pixels."""
        return np.pi * self.radius**2 / self.slab.pixel**2


def draw_slab(rng: np.random.Generator, plane: str, slices: int, canvas: int, thickness: float) -> Slab:
    """Draw a patient's slab: `slices` pictures of `canvas` pixels a side, `thickness` mm from first to last.

    The head differs from the template by rotation (12 degrees in the picture, 4 out of it), scale (7 %), position
    (6 mm) and a random warp of about 3 mm. Every slab passes near the sella, whatever the class.
    """
    pixel = rng.uniform(*FIELD_OF_VIEW) / canvas
    middle = (np.arange(canvas) - (canvas - 1) / 2) * pixel
    shift = np.add(CENTRES[plane], rng.uniform(-6, 6, 2))
    across = (np.arange(slices) - (slices - 1) / 2) * thickness / max(slices - 1, 1)
    axes = (across, middle + shift[0], middle + shift[1])
    turn = _pose(rng, plane)
    foot = SELLA + np.array(DIRECTIONS[plane][0]) * rng.uniform(*OFFSETS[plane])
    mesh = (axes[0][:, None, None], axes[1][:, None], axes[2])
    points = np.stack([foot[k] + sum(turn[k, axis] * mesh[axis] for axis in range(3)) for k in range(3)])
    for k in range(3):
        points[k] += 3.0 * smooth_field(rng, axes, 45.0) + 0.6 * smooth_field(rng, axes, 11.0)
    return Slab(plane, pixel, axes, turn, points)


def _pose(rng: np.random.Generator, plane: str) -> np.ndarray:
    """Draw a rotation and scale; return (3, 3), from slab directions to template directions."""
    tilt = np.radians([rng.uniform(-12, 12), rng.uniform(-4, 4), rng.uniform(-4, 4)])
    rotation = np.eye(3)
    for (a, b), angle in zip(((1, 2), (0, 2), (0, 1)), tilt, strict=True):
        step = np.eye(3)
        step[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        rotation = step @ rotation
    scale = np.diag(rng.uniform(0.93, 1.07) * rng.uniform(0.97, 1.03, 3))
    return np.array(DIRECTIONS[plane], float).T @ rotation @ scale
