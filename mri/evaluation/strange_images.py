"""Make strange images to test the gate (`mri.inference.gate`) with.

FAR images are no MRI at all; NEAR ones are spoiled slices, or slices of another part of the body. Each is what
`mri.data.images.prepare` makes of such an upload, because that is all that a network ever sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from string import ascii_lowercase

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_sample_images

from mri.data.images import prepare
from mri.data.phantom import acquisition, geometry, tissue
from mri.data.phantom.anatomy import Tissue

# Takes one image, uint8 (S, S), and a generator; returns another, uint8 (S, S).
Maker = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# mm from the sella, along the slice direction: through the neck, the face, and the ear or the cheek.
ELSEWHERE = {"axial": (-100.0, -75.0), "coronal": (62.0, 80.0), "sagittal": (68.0, 76.0)}


def make_strange(name: str, pixels: np.ndarray, seed: int) -> np.ndarray:
    """Return as many strange images as `pixels` has, uint8 (N, S, S), of the kind `name`, a key of FAR or NEAR.

    pixels: uint8 (N, S, S), genuine images. Most near kinds spoil them; kinds in MADE_UP use only their number and
    size. The same arguments give the same images, and an image doesn't depend on the others. Raises KeyError for an
    unknown kind.
    """
    maker = (FAR | NEAR)[name]
    size = pixels.shape[1]
    pictures = [maker(image, np.random.default_rng((seed, i, *name.encode()))) for i, image in enumerate(pixels)]
    return np.stack([prepare(picture, size) for picture in pictures])


def groups_of(name: str, groups: np.ndarray) -> np.ndarray:
    """Return the groups, (N,), of the images of a kind that `make_strange` makes of images of these groups (N,).

    A spoiled image keeps its group; each made-up image is a group by itself.
    """
    return np.array([f"{name} {i}" for i in range(len(groups))]) if name in MADE_UP else groups


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, image.shape, np.uint8)


def _blank(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.full_like(image, rng.integers(0, 256))


def _gradient(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blend from one grey level to another, in any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.indices(image.shape)
    along = np.cos(angle) * x + np.sin(angle) * y
    low, high = rng.uniform(0, 100), rng.uniform(155, 255)
    return (low + (high - low) * (along - along.min()) / np.ptp(along)).astype(np.uint8)


def _shapes(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw two to eight plain ellipses, rectangles and triangles on a plain ground."""
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
    """Print a page of random words, dark on light or light on dark."""
    side = len(image)
    words = ["".join(rng.choice(list(ascii_lowercase), rng.integers(2, 10))) for _ in range(60)]
    page = "\n".join(" ".join(words[start : start + 5]) for start in range(0, len(words), 5))
    ground, ink = rng.permutation([int(rng.integers(0, 60)), int(rng.integers(196, 256))]).tolist()
    picture = Image.new("L", (side, side), ground)
    font = ImageFont.load_default(size=side * rng.uniform(0.06, 0.12))
    ImageDraw.Draw(picture).multiline_text((0.03 * side, 0.03 * side), page, fill=ink, font=font)
    return np.array(picture)


def _photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a square out of one of the two photographs (a temple, a flower) that come with scikit-learn."""
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
    """Permute the 16 tiles of a 4 x 4 grid; a remainder at the edge stays in place."""
    part = len(image) // 4
    shuffled = image.copy()
    for new, old in enumerate(rng.permutation(16)):
        (y, x), (v, u) = divmod(new, 4), divmod(int(old), 4)
        shuffled[y * part : (y + 1) * part, x * part : (x + 1) * part] = image[
            v * part : (v + 1) * part, u * part : (u + 1) * part
        ]
    return shuffled


def _enlarged(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Enlarge a part of a fifth to a third of the side, from the middle of the picture, to all of it."""
    side = len(image)
    part = int(rng.uniform(0.2, 0.33) * side)
    top, left = rng.integers(side // 4, side - side // 4 - part + 1, 2)
    return _resized(image[top : top + part, left : left + part], side)


def _blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(image, rng.uniform(0.04, 0.07) * len(image))


def _motion(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let the head jump by some 4 % of the picture between parts of the measurement, which gives ghosts.

    A shift in the picture is a phase in the lines of k-space (Zhuo and Gullapalli, RadioGraphics 26(1), 2006).
    """
    side = len(image)
    jumps = np.cumsum(rng.normal(0, 0.04 * side, (2, 8)), axis=1)
    part_of_line = np.arange(side) * jumps.shape[1] // side
    down, right = np.fft.ifftshift(jumps[:, part_of_line], axes=1)[:, :, None]
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)
    lines = np.fft.fft2(image) * np.exp(-2j * np.pi * (rows * down + columns * right))
    return np.clip(np.round(np.abs(np.fft.ifft2(lines))), 0, 255).astype(np.uint8)


def _elsewhere(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Render a synthetic slice far from any brain tumour."""
    slab = slab_elsewhere(rng, len(image))
    table = tissue.draw_table(rng)
    plain = tissue.sample_tissue(table, slab.points)
    textured = tissue.add_texture(rng, plain, geometry.Site.of(slab, 1.0), float(table[Tissue.CSF]))
    return acquisition.acquire(rng, textured, slab)[0]


def slab_elsewhere(rng: np.random.Generator, canvas: int) -> geometry.Slab:
    """Return one slice, `canvas` pixels a side, through neck, face or cheek."""
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
# Kinds that are made from no genuine image.
MADE_UP = {*FAR, "elsewhere"}
