"""Test maps by changing the image and asking the network again: remove pixels, insert them, add noise.

images: float32 (N, 1, H, W) in [0, 1]; maps: float (N, H, W); target: int (N,), the class that the map explains.
`predict` takes images (B, 1, H, W) and returns probabilities (B, C); it is called with at most `batch_size` at once.
Tied pixels (a Grad-CAM is zero over half the image) are ranked at random, by the seed: in the order of memory, the
image would be removed from the top down. So a constant map scores like a random one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np
from scipy import integrate, ndimage, sparse
from scipy.sparse import linalg

from mri.inference.gradcam import upsample

Predict = Callable[[np.ndarray], np.ndarray]
Explain = Callable[[np.ndarray, np.ndarray], np.ndarray]

STEPS = 20
LEVELS = tuple(round(0.1 * step, 1) for step in range(1, 10))
NOISE = 0.01


class Curves(NamedTuple):
    """Probability of the target while pixels are deleted from or inserted into the image, most relevant first.

    fraction: float64 (S,), share of pixels exchanged. deletion, insertion: float64 (N, S).
    """

    fraction: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self) -> np.ndarray:
        """Return float64 (N,): the area under the deletion curve, lower is better. Compare it with a random map's."""
        return integrate.trapezoid(self.deletion, self.fraction, axis=1)

    @property
    def insertion_area(self) -> np.ndarray:
        """Return float64 (N,): the area under the insertion curve, higher is better. Compare it with a random map's."""
        return integrate.trapezoid(self.insertion, self.fraction, axis=1)


def deletion_insertion(
    predict: Predict,
    images: np.ndarray,
    maps: np.ndarray,
    target: np.ndarray,
    steps: int = STEPS,
    seed: int = 0,
    batch_size: int = 32,
) -> Curves:
    """Compute deletion and insertion curves (Petsiuk et al. 2018, arXiv 1806.07421) against a blurred image.

    They depend only on the order of the pixels, and the network has never seen half-blurred images: ROAD is fairer.
    Costs 2 * steps predictions per image: one curve ends where the other begins.
    """
    fraction = np.arange(steps + 1) / steps
    blurred = blur(images)

    def changed() -> Iterator[np.ndarray]:
        for i in range(len(images)):
            rank = removal_rank(maps[i], (seed, i)).reshape(images.shape[2:])
            for old, new in ((images[i], blurred[i]), (blurred[i], images[i])):
                for share in fraction[:-1]:
                    yield np.where(rank < round(share * rank.size), new, old)

    curves = _probabilities(predict, changed(), np.repeat(target, 2 * steps), batch_size)
    deletion, insertion = np.moveaxis(curves.reshape(len(images), 2, steps), 1, 0)
    ends = insertion[:, :1], deletion[:, :1]
    return Curves(fraction, np.hstack([deletion, ends[0]]), np.hstack([insertion, ends[1]]))


def blur(images: np.ndarray) -> np.ndarray:
    """Return the images without detail: a Gaussian blur with a sigma of a tenth of the height."""
    return ndimage.gaussian_filter(images, sigma=(0, 0, images.shape[2] / 10, images.shape[2] / 10))


class Road(NamedTuple):
    """Probability of the target with pixels removed and imputed, the most or the least relevant ones first.

    level: float64 (L,), share of pixels removed. most_first, least_first: float64 (N, L).
    """

    level: np.ndarray
    most_first: np.ndarray
    least_first: np.ndarray

    @property
    def combined(self) -> np.ndarray:
        """Return float64 (N,): the mean of (least first - most first) / 2; above 0 the map is better than chance."""
        return (self.least_first - self.most_first).mean(axis=1) / 2


def road(
    predict: Predict,
    images: np.ndarray,
    maps: np.ndarray,
    target: np.ndarray,
    levels: Iterable[float] = LEVELS,
    seed: int = 0,
    batch_size: int = 32,
) -> Road:
    """Remove and debias (Rong et al. 2022, arXiv 2202.00449): impute removed pixels, so that no hole shows their shape.

    Costs 2 L predictions and 2 L imputations per image (an imputation takes about 25 ms at 224 pixels).
    """
    level = np.array(list(levels), dtype=np.float64)

    def changed() -> Iterator[np.ndarray]:
        for i in range(len(images)):
            rng = np.random.default_rng((seed, i, 1))
            rank = removal_rank(maps[i], (seed, i)).reshape(images.shape[2:])
            for order in (rank, rank.size - 1 - rank):
                for share in level:
                    yield _noisy_imputation(images[i, 0], order < round(share * rank.size), rng)[None]

    scores = _probabilities(predict, changed(), np.repeat(target, 2 * len(level)), batch_size)
    most, least = np.moveaxis(scores.reshape(len(images), 2, len(level)), 1, 0)
    return Road(level, most, least)


def _noisy_imputation(image: np.ndarray, removed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = NOISE * rng.standard_normal(image.shape)
    return np.where(removed, impute(image, removed) + noise, image).astype(np.float32)


def impute(image: np.ndarray, removed: np.ndarray, iterations: int = 40) -> np.ndarray:
    """Fill removed pixels: each becomes the weighted mean of its neighbours (1/6 beside it, 1/12 across a corner).

    image: float (H, W); removed: bool (H, W), not all of it. Returns float64 (H, W).

    The linear system is solved from coarse to fine, by conjugate gradients that start at the coarser solution: five
    times faster than a direct solution and within a few thousandths of it, below the noise that ROAD adds.
    """
    if not removed.any():
        return np.asarray(image, np.float64)
    neighbours, matrix = _system(*image.shape)
    unknown = removed.ravel()
    filled = np.where(removed, 0, image).ravel().astype(np.float64)
    system, known_part = matrix[unknown][:, unknown], (neighbours @ filled)[unknown]
    if unknown.sum() <= 1000:
        filled[unknown] = linalg.spsolve(system.tocsc(), known_part)
    else:
        start = _coarse_imputation(image, removed, iterations).ravel()[unknown]
        filled[unknown], _ = linalg.cg(system, known_part, x0=start, rtol=1e-6, maxiter=iterations)
    return filled.reshape(image.shape)


def _coarse_imputation(image: np.ndarray, removed: np.ndarray, iterations: int) -> np.ndarray:
    """Return the imputation of the image at half its size, known pixels averaged, scaled back to full size."""
    height, width = image.shape
    even = ((0, height % 2), (0, width % 2))
    known = np.pad(np.where(removed, 0.0, 1.0), even)
    cells = (known.shape[0] // 2, 2, known.shape[1] // 2, 2)
    count = known.reshape(cells).sum(axis=(1, 3))
    total = (np.pad(np.asarray(image, np.float64), even) * known).reshape(cells).sum(axis=(1, 3))
    coarse = impute(total / np.maximum(count, 1), count == 0, iterations)
    return upsample(coarse[None], (known.shape[0], known.shape[1]))[0, :height, :width]


@lru_cache(maxsize=16)
def _system(height: int, width: int) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return neighbour weights W, and D - W with W's row sums in D, for all pixels of an image."""
    index = np.arange(height * width).reshape(height, width)
    weights = sparse.csr_array((height * width, height * width))
    for dy, dx, weight in ((0, 1, 1 / 6), (1, 0, 1 / 6), (1, 1, 1 / 12), (1, -1, 1 / 12)):
        here = index[: height - dy, max(0, -dx) : width - max(0, dx)].ravel()
        there = index[dy:, max(0, dx) : width + min(0, dx)].ravel()
        one_way = sparse.csr_array((np.full(len(here), weight), (here, there)), shape=weights.shape)
        weights = weights + one_way + one_way.T
    return weights.tocsr(), (sparse.diags_array(weights.sum(axis=1)) - weights).tocsr()


def max_sensitivity(
    explain: Explain,
    predict: Predict,
    images: np.ndarray,
    target: np.ndarray,
    radius: float = 0.02,
    draws: int = 10,
    seed: int = 0,
) -> np.ndarray:
    """Return the map's largest relative change, |A(x + d) - A(x)| / |A(x)|, under uniform noise in [-radius, radius].

    Yeh et al. 2019, arXiv 1901.09392; lower is better. Draws that change the predicted class don't count.
    explain: takes images and targets, returns maps, (N, H, W) or those of M methods, (M, N, H, W).
    Returns float64 (N,) or (M, N): 0 for a map that ignores the image, about 0.7 between unrelated uniform maps. NaN
    for an empty map and where no draw kept the class.
    """
    rng = np.random.default_rng(seed)
    original = explain(images, target).astype(np.float64)
    norm = np.linalg.norm(original, axis=(-2, -1))
    predicted = predict(images).argmax(axis=1)
    largest = np.full(norm.shape, np.nan)
    for _ in range(draws):
        noisy = (images + rng.uniform(-radius, radius, images.shape)).astype(np.float32)
        change = np.linalg.norm(explain(noisy, target) - original, axis=(-2, -1))
        counts = (predict(noisy).argmax(axis=1) == predicted) & (norm > 0)
        largest[counts] = np.fmax(largest[counts], change[counts] / norm[counts])
    return largest


def removal_rank(values: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """Return int (pixels,): 0 for the most relevant pixel, ties in random order."""
    values = np.maximum(np.asarray(values).ravel(), 0)
    order = np.lexsort((np.random.default_rng(seed).random(values.size), -values))
    rank = np.empty(values.size, np.int64)
    rank[order] = np.arange(values.size)
    return rank


def _probabilities(predict: Predict, images: Iterator[np.ndarray], target: np.ndarray, batch_size: int) -> np.ndarray:
    """Return float64 (B,): the probability of each image's target; images (1, H, W) are generated batch by batch."""
    rows: list[np.ndarray] = []
    while batch := list(islice(images, batch_size)):
        rows.append(predict(np.stack(batch).astype(np.float32, copy=False)))
    return np.concatenate(rows)[np.arange(len(target)), target].astype(np.float64)
