"""Find images that two datasets share, although one has them turned by any angle, squeezed, shrunk or mirrored.

Sets that are called external are often such copies. `mri.data.matching` knows quarter turns only, because it compares
thousands of images with each other; here a few hundred are compared with thousands, more thoroughly.

The head is drawn in a frame where it has the same spread in all directions (whitening), once as a solid and once by its
brightness: another contrast moves the one, a border in the picture the other. Any two pictures that differ by turning,
stretching, shifting and mirroring then differ by a turn and a mirror alone, which are a shift and a reversal of the
angle in polar coordinates (the idea of Fourier-Mellin matching: Reddy & Chatterji, IEEE TIP 5(8), 1996). One Fourier
transform over the angle gives the correlation at all angles. What comes near the threshold is aligned exactly, and
correlated pixel by pixel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage, optimize

from mri.data.matching import BLOCK, DARK

RADII, ANGLES, FREQUENCIES = 16, 96, 24
# The outermost radius, in standard deviations of the outline: 2 for the rim of an ellipse.
REACH = 2.1
# Side of the pictures that are aligned exactly.
SIDE = 96
# A picture may reach the threshold when aligned although its polar correlation is this much lower.
SLACK = 0.2
# Candidates that are aligned, per picture.
CANDIDATES = 3
# Columns of the result of `copies`.
COLUMNS = ("a", "b", "correlation", "degrees", "mirrored")


@dataclass(frozen=True)
class Polar:
    """Pictures as the search compares them.

    frames: float64 (N, 2, 2, 3), both `whitened` frames of each. spectra: complex64 (2, F, N, R), of the rings in them,
    scaled so that the sum of products of two pictures over frequencies and radii is their correlation.
    """

    pixels: Sequence[np.ndarray]
    frames: np.ndarray
    spectra: np.ndarray


def polar(count: int, read: Callable[[int], np.ndarray]) -> Polar:
    """Describe `count` pictures; read(i) returns the i-th, uint8 (H, W), in the frame of its file."""

    def describe(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = reduced(read(number))
        both = whitened(pixels)
        return pixels, both, np.stack([_spectrum(pixels, frame) for frame in both])

    with ThreadPoolExecutor() as pool:
        pixels, frames, spectra = zip(*pool.map(describe, range(count)), strict=True)
    return Polar(pixels, np.stack(frames), np.ascontiguousarray(np.stack(spectra).transpose(1, 3, 0, 2)))


def reduced(pixels: np.ndarray) -> np.ndarray:
    """Return the picture with a longer side of at most 2 * SIDE, by averaging whole blocks."""
    step = max(1, max(pixels.shape) // (2 * SIDE))
    height, width = (length // step * step for length in pixels.shape)
    blocks = pixels[:height, :width].reshape(height // step, step, width // step, step)
    return blocks.mean((1, 3)).astype(np.uint8)


def whitened(pixels: np.ndarray) -> np.ndarray:
    """Return two frames of the head, float64 (2, 2, 3): row, column = frame @ (down, right, 1), in standard deviations.

    The head is what is brighter than DARK of the mean brightness, weighted by brightness: in the first frame as a solid
    with its holes filled, in the second weighted by brightness.
    """
    light = pixels.astype(np.float64)
    total = light.sum()
    bright = np.maximum(light - DARK * (light**2).sum() / max(total, 1.0), 0)
    solid = ndimage.binary_fill_holes(ndimage.binary_opening(bright > 0, iterations=2))
    return np.stack([_frame(weight) for weight in (solid, bright)])


def _frame(weight: np.ndarray) -> np.ndarray:
    weight = weight if weight.any() else np.ones(weight.shape)
    place = np.indices(weight.shape).reshape(2, -1)[:, weight.ravel() > 0].astype(np.float64)
    share = weight[weight > 0] / weight.sum()
    centre = place @ share
    away = place - centre[:, None]
    values, vectors = np.linalg.eigh((share * away) @ away.T + 1e-6 * np.eye(2))
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    return np.column_stack([root, centre])


def _spectrum(pixels: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return the Fourier coefficients over the angle, complex64 (R, F), of rings of equal area."""
    radius = REACH * np.sqrt((np.arange(RADII) + 0.5) / RADII)[:, None]
    angle = 2 * np.pi * np.arange(ANGLES) / ANGLES
    offsets = np.stack([radius * np.sin(angle), radius * np.cos(angle), np.ones((RADII, ANGLES))])
    rings = _sample(pixels, frame, offsets)
    rings -= rings.mean()
    length = np.linalg.norm(rings)
    spectrum = np.fft.rfft(rings / max(length, 1e-6), axis=1)[:, :FREQUENCIES] / np.sqrt(ANGLES)
    spectrum[:, 1:] *= np.sqrt(2)  # a real signal has each frequency but 0 twice
    return spectrum.astype(np.complex64)


def _sample(pixels: np.ndarray, frame: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return grey levels at offsets (3, ...) of a frame; 0 outside the picture."""
    places = np.tensordot(frame, offsets, axes=(1, 0))
    return ndimage.map_coordinates(pixels.astype(np.float32), places, order=1, mode="constant")


def copies(left: Polar, right: Polar, threshold: float) -> pd.DataFrame:
    """Find the picture of `right` that each of `left` is a copy of, if the correlation reaches `threshold`.

    Returns `COLUMNS`: a and b (row numbers), correlation (NCC of the aligned heads), degrees (by which b has to be
    turned, anticlockwise, after whitening and after mirroring if mirrored).
    """
    rows = []
    for a, candidates in enumerate(_candidates(left, right, threshold - SLACK)):
        aligned = [(_align(left, right, a, *candidate), candidate) for candidate in candidates]
        if aligned:
            correlation, (_, b, mirrored, degrees) = max(aligned, key=lambda pair: pair[0])
            if correlation >= threshold:
                rows.append((a, b, correlation, degrees, mirrored))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _candidates(left: Polar, right: Polar, threshold: float) -> Iterator[list[tuple[int, int, bool, float]]]:
    """Yield for each picture of `left` the likeliest (frame, b, mirrored, degrees).

    Their polar correlation is at least `threshold`.
    """
    step = max(1, BLOCK // (4 * ANGLES * len(right.pixels)))
    for start in range(0, len(left.pixels), step):
        block = left.spectra[:, :, start : start + step]
        found: list[list[tuple[float, int, int, bool, float]]] = [[] for _ in range(block.shape[2])]
        for frame, mirrored in itertools.product((0, 1), (False, True)):
            part, other = block[frame], right.spectra[frame]
            other = other if mirrored else other.conj()
            products = part @ other.transpose(0, 2, 1)  # (F, n, M)
            products[1:] /= 2  # irfft counts each frequency but 0 twice
            turned = np.fft.irfft(products, ANGLES, axis=0) * ANGLES
            best, angle = turned.max(0), turned.argmax(0)
            for a, b in np.argwhere(best >= threshold):
                found[a].append((float(best[a, b]), frame, int(b), mirrored, 360 / ANGLES * float(angle[a, b])))
        for rows in found:
            yield [row[1:] for row in sorted(rows, reverse=True)[:CANDIDATES]]


def _align(left: Polar, right: Polar, a: int, frame: int, b: int, mirrored: bool, degrees: float) -> float:
    """Return the NCC of two heads after shifting, turning and stretching the second for the best fit."""
    axis = np.linspace(-REACH, REACH, SIDE)
    down, across = np.meshgrid(axis, axis, indexing="ij")
    inside = np.hypot(down, across) <= REACH
    offsets = np.stack([down[inside], across[inside], np.ones(inside.sum())])
    first = _standardised(_sample(left.pixels[a], left.frames[a, frame], offsets))
    turn = _turn(np.deg2rad(degrees), mirrored)

    def correlation(change: np.ndarray, every: int) -> float:
        matrix = np.vstack([turn + np.column_stack([change[:4].reshape(2, 2), change[4:]]), [0, 0, 1]])
        second = _sample(right.pixels[b], right.frames[b, frame] @ matrix, offsets[:, ::every])
        return float(_standardised(first[::every]) @ _standardised(second))

    start = np.zeros(6)
    simplex = np.vstack([start, 0.08 * np.eye(6)])
    fitted = optimize.minimize(
        lambda change: -correlation(change, 5),
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": 250, "xatol": 1e-3, "fatol": 1e-4},
    )
    return correlation(fitted.x, 1)


def _turn(angle: float, mirrored: bool) -> np.ndarray:
    """Return the matrix, float64 (2, 3), from offsets of the first picture to those of the second."""
    cos, sin = np.cos(angle), np.sin(angle)
    if mirrored:
        return np.array([[-cos, sin, 0], [sin, cos, 0]])
    return np.array([[cos, -sin, 0], [sin, cos, 0]])


def _standardised(values: np.ndarray) -> np.ndarray:
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)
