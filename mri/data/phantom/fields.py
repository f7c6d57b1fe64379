"""Random smooth scalar fields, from which warps, textures, bias fields and ragged edges are made."""

from __future__ import annotations

import numpy as np

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]

# Mean over one lattice cell of the sum of squared cubic B-spline weights: the variance of the smoothed field per axis
# when coefficients are independent with unit variance.
VARIANCE_PER_AXIS = 151 / 315


def smooth_field(rng: np.random.Generator, axes: Axes, pitch: float) -> np.ndarray:
    """Draw a zero-mean, unit-variance random field on the regular grid spanned by `axes` (mm, ascending); float64.

    A cubic B-spline with independent normal coefficients every `pitch` mm, as in free-form deformation
    (Rueckert et al., IEEE TMI 18(8), 1999): details are about `pitch` mm wide and continue across slices.
    """
    planes, rows, columns = (_spline_basis(axis, pitch) for axis in axes)
    coefficients = rng.standard_normal((planes.shape[1], rows.shape[1], columns.shape[1]))
    sliced = np.tensordot(planes, coefficients, axes=1)
    return rows @ (sliced @ columns.T) / VARIANCE_PER_AXIS**1.5


def _spline_basis(positions: np.ndarray, pitch: float) -> np.ndarray:
    """Return cubic B-spline weights (len(positions), K) on a uniform lattice of `pitch`; rows sum to one."""
    cells = (positions - positions[0]) / pitch
    first = np.floor(cells).astype(int)
    t = cells - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    basis = np.zeros((len(positions), first[-1] + 4))
    np.put_along_axis(basis, first[:, None] + np.arange(4), weights, axis=1)
    return basis


def ramp(values: np.ndarray, start: float | np.ndarray, stop: float | np.ndarray) -> np.ndarray:
    """Return 0 before `start`, 1 beyond `stop`, and linear values in between; decreasing where `start` is larger."""
    return np.clip((values - start) / (stop - start), 0, 1)


def refine(coarse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate `coarse` linearly to `shape`; it has every second sample along the axes where `shape` is larger.

    Beyond the last coarse sample its value is repeated.
    """
    for axis, size in enumerate(shape):
        if coarse.shape[axis] == size:
            continue
        samples = np.moveaxis(coarse, axis, 0)
        fine = np.repeat(samples, 2, axis=0)[:size]
        fine[1 : 2 * len(samples) - 1 : 2] += samples[1:]
        fine[1 : 2 * len(samples) - 1 : 2] *= 0.5
        coarse = np.moveaxis(fine, 0, axis)
    return np.ascontiguousarray(coarse)
