"""Strange images: how the gate that stops them is fitted and scored (`mri.inference.gate`), and pictures to test it.

FAR pictures are no MRI at all; NEAR ones are slices gone wrong, or slices of another part of the body. Each is what
`mri.data.images.prepare` makes of such an upload, because that is all that a network ever sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from string import ascii_lowercase
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_sample_images
from sklearn.decomposition import PCA

from mri.base.intervals import estimate, resample_weights
from mri.data.images import prepare
from mri.data.phantom import acquisition, geometry, tissue
from mri.data.phantom.anatomy import Tissue
from mri.evaluation.scores import area_under_roc
from mri.inference.gate import Gate, unit

# More gain nothing on synthetic or real slices; with 64 a file for 2,048 channels has 0.6 MB.
AXES = 64
# Least variance: that of features that never vary must not be zero.
SMALLEST = 1e-12


def fit_gate(train: np.ndarray, val: np.ndarray, true_positive_rate: float = 0.95, axes: int = AXES) -> Gate:
    """The gate around pooled features `train` (N, D) that lets through at least the given share of `val` (M, D).

    Never more axes than half of N or D, whichever is less. The validation images must be new to the network: features
    of those it was trained on lie closer together.
    """
    directions = unit(train)
    axes = min(axes, min(train.shape) // 2)
    fitted = PCA(axes, svd_solver="randomized", random_state=0).fit(directions)
    variances = fitted.explained_variance_
    rest = (directions.var(0, ddof=1).sum() - variances.sum()) / (train.shape[1] - axes)
    gate = Gate(
        fitted.mean_.astype(np.float32),
        fitted.components_.astype(np.float16, order="C"),
        np.maximum(variances, SMALLEST).astype(np.float32),
        max(float(rest), SMALLEST),
        threshold=np.inf,
    )
    return replace(gate, threshold=gate_threshold(gate.score(val), true_positive_rate))


def gate_threshold(inside: np.ndarray, true_positive_rate: float) -> float:
    """The least score that at least this share (0 to 1) of the genuine images' scores `inside` (N,) doesn't exceed."""
    return float(np.quantile(inside, true_positive_rate, method="inverted_cdf"))


def detection_scores(
    inside: np.ndarray,
    outside: np.ndarray,
    inside_groups: Sequence | np.ndarray,
    outside_groups: Sequence | np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """How well a score tells strange images from genuine ones: {auroc, fpr_at_95_tpr}, each {value, low, high}.

    inside: (N,) scores of genuine images. outside: (M,) scores of strange ones. inside_groups, outside_groups: (N,) and
    (M,), what is resampled together: a strange image that was made from a genuine one has that one's group.
    auroc: the chance that a strange one scores higher; 1 is perfect, 0.5 is chance. fpr_at_95_tpr: the share of strange
    ones let through by the threshold that lets 95 % of these genuine ones through; 0 is perfect.
    """
    drawn = drawn_together(np.asarray(inside_groups), np.asarray(outside_groups), resamples, seed)
    first, second = (np.concatenate([np.ones((1, part.shape[1])), part]) for part in drawn)
    with np.errstate(invalid="ignore"):  # of few groups, a resample may hold no strange image
        areas, rates = auroc(inside, outside, first, second), false_positive_rate(inside, outside, first, second)
    count = len(np.unique(np.asarray(outside_groups)))
    scores = {"auroc": areas, "fpr_at_95_tpr": rates}
    return {name: estimate(float(values[0]), values[1:], groups=count) for name, values in scores.items()}


def drawn_together(
    inside_groups: np.ndarray, outside_groups: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """float64 (B, N) and (B, M): how often each genuine and each strange image occurs in each of B resamples.

    Groups of genuine images are drawn once for both; strange images of other groups are drawn by themselves.
    """
    shared = np.isin(outside_groups, inside_groups)
    together = resample_weights(np.concatenate([inside_groups, outside_groups[shared]]), resamples, seed)
    outside = np.empty((resamples, len(outside_groups)))
    outside[:, shared] = together[:, len(inside_groups) :]
    if not shared.all():
        outside[:, ~shared] = resample_weights(outside_groups[~shared], resamples, seed + 1)
    return together[:, : len(inside_groups)], outside


def auroc(
    inside: np.ndarray, outside: np.ndarray, inside_weights: np.ndarray, outside_weights: np.ndarray
) -> np.ndarray:
    """(B,) chance that a strange image outscores a genuine one, ties counting half; weights: (B, N) and (B, M)."""
    strange = np.arange(len(inside) + len(outside)) >= len(inside)
    weights = np.concatenate([inside_weights, outside_weights], axis=1)
    return area_under_roc(np.concatenate([inside, outside]), strange, weights)


def false_positive_rate(
    inside: np.ndarray,
    outside: np.ndarray,
    inside_weights: np.ndarray,
    outside_weights: np.ndarray,
    true_positive_rate: float = 0.95,
) -> np.ndarray:
    """(B,) share of strange images that the `threshold` of that rate lets through; weights: (B, N) and (B, M)."""
    order = np.argsort(inside, kind="stable")
    passed = np.cumsum(inside_weights[:, order], axis=1)
    least = (passed >= true_positive_rate * passed[:, -1:] - 1e-9).argmax(1)
    let_through = outside <= inside[order][least][:, None]
    return (outside_weights * let_through).sum(1) / outside_weights.sum(1)


# Takes one image, uint8 (S, S), and a generator; returns another, uint8 (S, S).
Maker = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# mm from the sella, along the direction of the slices: through the neck, the face, and the ear or the cheek.
ELSEWHERE = {"axial": (-100.0, -75.0), "coronal": (62.0, 80.0), "sagittal": (68.0, 76.0)}


def make_strange(name: str, pixels: np.ndarray, seed: int) -> np.ndarray:
    """As many made images as `pixels` has, uint8 (N, S, S), of the kind `name`, a key of FAR or NEAR.

    pixels: uint8 (N, S, S), genuine images, which most near kinds spoil; those of MADE_UP take only number and size
    from them.
    The same arguments give the same images, and an image doesn't depend on the others. Raises KeyError for a kind that
    there isn't.
    """
    maker = (FAR | NEAR)[name]
    size = pixels.shape[1]
    made = [maker(image, np.random.default_rng((seed, i, *name.encode()))) for i, image in enumerate(pixels)]
    return np.stack([prepare(picture, size) for picture in made])


def groups_of(name: str, own: np.ndarray) -> np.ndarray:
    """(N,) what belongs together of what `make` makes: the groups `own` (N,) of the images that it spoils, and for each
    image of a kind of MADE_UP one of its own."""
    return np.array([f"{name} {i}" for i in range(len(own))]) if name in MADE_UP else own


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, image.shape, np.uint8)


def _blank(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.full_like(image, rng.integers(0, 256))


def _gradient(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From one grey level to another, in any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.indices(image.shape)
    along = np.cos(angle) * x + np.sin(angle) * y
    low, high = rng.uniform(0, 100), rng.uniform(155, 255)
    return (low + (high - low) * (along - along.min()) / np.ptp(along)).astype(np.uint8)


def _shapes(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two to eight plain ellipses, rectangles and triangles on a plain ground."""
    side = len(image)
    picture = Image.new("L", (side, side), int(rng.integers(0, 256)))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 9)):
        corners = np.sort(rng.uniform(-0.1, 1.1, (2, 2)) * side, axis=0).ravel().tolist()
        fill = int(rng.integers(0, 256))
        kind = rng.integers(3)
        if kind == 0:
            draw.ellipse(corners, fill=fill)
        elif kind == 1:
            draw.rectangle(corners, fill=fill)
        else:
            draw.polygon((rng.uniform(0, 1, 6) * side).tolist(), fill=fill)
    return np.array(picture)


def _text(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A page of made words, dark on light or light on dark."""
    side = len(image)
    words = ["".join(rng.choice(list(ascii_lowercase), rng.integers(2, 10))) for _ in range(60)]
    page = "\n".join(" ".join(words[start : start + 5]) for start in range(0, len(words), 5))
    ground, ink = rng.permutation([int(rng.integers(0, 60)), int(rng.integers(196, 256))]).tolist()
    picture = Image.new("L", (side, side), ground)
    font = ImageFont.load_default(size=side * rng.uniform(0.06, 0.12))
    ImageDraw.Draw(picture).multiline_text((0.03 * side, 0.03 * side), page, fill=ink, font=font)
    return np.array(picture)


def _photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square part of one of the two photographs (a temple, a flower) in scikit-learn."""
    photographs = _photographs()
    photograph = photographs[rng.integers(len(photographs))]
    height, width = photograph.shape
    part = int(rng.uniform(0.3, 1) * height)
    top, left = rng.integers(0, height - part + 1), rng.integers(0, width - part + 1)
    return _resized(photograph[top : top + part, left : left + part], len(image))


@cache
def _photographs() -> list[np.ndarray]:
    return [np.array(Image.fromarray(picture).convert("L")) for picture in load_sample_images().images]


def _inverted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 255 - image


def _upside_down(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image[::-1]


def _shuffled(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The 16 parts of a 4 x 4 grid in another order; a rest at the edge stays where it is."""
    part = len(image) // 4
    shuffled = image.copy()
    for new, old in enumerate(rng.permutation(16)):
        (y, x), (v, u) = divmod(new, 4), divmod(int(old), 4)
        shuffled[y * part : (y + 1) * part, x * part : (x + 1) * part] = image[
            v * part : (v + 1) * part, u * part : (u + 1) * part
        ]
    return shuffled


def _enlarged(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part of a fifth to a third of the side, from the middle of the picture, enlarged to all of it."""
    side = len(image)
    part = int(rng.uniform(0.2, 0.33) * side)
    top, left = rng.integers(side // 4, side - side // 4 - part + 1, 2)
    return _resized(image[top : top + part, left : left + part], side)


def _blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(image, rng.uniform(0.04, 0.07) * len(image))


def _motion(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The head jumps between parts of the measurement, by some 4 % of the picture each time: ghosts (Zhuo and
    Gullapalli, RadioGraphics 26(1), 2006). A shift in the picture is a phase in the lines of k-space."""
    side = len(image)
    jumps = np.cumsum(rng.normal(0, 0.04 * side, (2, 8)), axis=1)
    part_of_line = np.arange(side) * jumps.shape[1] // side
    down, right = np.fft.ifftshift(jumps[:, part_of_line], axes=1)[:, :, None]
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)
    lines = np.fft.fft2(image) * np.exp(-2j * np.pi * (rows * down + columns * right))
    return np.clip(np.round(np.abs(np.fft.ifft2(lines))), 0, 255).astype(np.uint8)


def _elsewhere(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A synthetic slice far from any brain tumour."""
    slab = slab_elsewhere(rng, len(image))
    table = tissue.draw_table(rng)
    plain = tissue.sample_tissue(table, slab.points)
    textured = tissue.add_texture(rng, plain, geometry.Site.of(slab, 1.0), float(table[Tissue.CSF]))
    return acquisition.acquire(rng, textured, slab)[0]


def slab_elsewhere(rng: np.random.Generator, canvas: int) -> geometry.Slab:
    """One slice of `canvas` pixels a side through neck, face or cheek."""
    plane = str(rng.choice(geometry.PLANES))
    slab = geometry.draw_slab(rng, plane, 1, canvas, 1.0)
    shift = np.array(geometry.DIRECTIONS[plane][0]) * rng.uniform(*ELSEWHERE[plane])
    return replace(slab, points=slab.points + shift[:, None, None, None])


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


FAR: dict[str, Maker] = {
    "noise": _noise,
    "blank": _blank,
    "gradient": _gradient,
    "shapes": _shapes,
    "text": _text,
    "photograph": _photograph,
}
NEAR: dict[str, Maker] = {
    "inverted": _inverted,
    "upside_down": _upside_down,
    "shuffled": _shuffled,
    "enlarged": _enlarged,
    "blurred": _blurred,
    "motion": _motion,
    "elsewhere": _elsewhere,
}
# These come from no image that was there before.
MADE_UP = {*FAR, "elsewhere"}
