"""Score maps: where their mass lies, how concentrated it is, whether it depends on what the network learned.

Maps are float (N, H, W) and raw; negative values count as zero. Masks are bool (N, H, W). A score is float64 (N,),
one per image, so that intervals and paired tests can be computed from it. With k pixels in the mask of n, p = k / n.

An all-zero map gets 0 from every localisation score except AUROC, which gives ties their chance level; `empty` counts
such maps, because leaving them out would flatter a method. Where a score is not defined (an empty mask, the sparsity of
an empty map) it is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage, stats
from skimage.filters import threshold_otsu
from skimage.metrics import structural_similarity

from mri.data.images import CONTENT_LEVEL, CONTENT_PART
from mri.inference.consensus import spearman


def localisation(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Return all localisation scores, {name: float64 (N,)}, higher is better; NaN where a mask is empty."""
    return {name: score(maps, masks) for name, score in LOCALISATION.items()}


def chance(masks: np.ndarray) -> dict[str, np.ndarray]:
    """Return what independent uniform noise is expected to score on these masks: {name: float64 (N,)}.

    IoU: Otsu's method halves uniform noise, and half of the pixels overlap a mask by (k/2) / (n/2 + k/2) = p/(1 + p).
    """
    inside = _rows(masks)
    p = np.where(inside.any(axis=1), inside.sum(axis=1), np.nan) / inside.shape[1]
    return dict.fromkeys(("pointing_game", "rma", "rra"), p) | {"auroc": 0.5 + 0 * p, "iou_otsu": p / (1 + p)}


def empty(maps: np.ndarray) -> np.ndarray:
    """Return bool (N,): whether a map has no positive value."""
    return np.logical_not(_flat(maps).any(axis=1))


def pointing_game(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of the highest pixels that lie in the mask (Zhang et al. 2018, doi 10.1007/s11263-017-1059-x).

    1 or 0, in between only for ties, so p for a constant map.
    """
    values, inside = _pair(maps, masks)
    peak = values == values.max(axis=1, keepdims=True)
    return _scored(values, inside, (peak & inside).sum(axis=1) / peak.sum(axis=1))


def mass_accuracy(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of a map's mass inside the mask: 1 at best, p for noise or a flat map.

    Relevance mass accuracy, RMA (Arras et al. 2022, doi 10.1016/j.inffus.2021.11.008).
    """
    values, inside = _pair(maps, masks)
    with np.errstate(invalid="ignore"):
        return _scored(values, inside, (values * inside).sum(axis=1) / values.sum(axis=1))


def rank_accuracy(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of the k highest pixels that lie inside the mask of k pixels: 1 at best, p for noise.

    Relevance rank accuracy, RRA (Arras et al. 2022, doi 10.1016/j.inffus.2021.11.008). Pixels tied at the k-th place
    count by their expected share, so the order of pixels in memory doesn't matter.
    """
    values, inside = _pair(maps, masks)
    return _scored(values, inside, np.array([_rank_accuracy(*pair) for pair in zip(values, inside, strict=True)]))


def _rank_accuracy(values: np.ndarray, inside: np.ndarray) -> float:
    k = int(inside.sum())
    if k == 0:
        return np.nan
    threshold = np.partition(values, -k)[-k]
    above, tied = values > threshold, values == threshold
    return ((above & inside).sum() + (k - above.sum()) * (tied & inside).sum() / tied.sum()) / k


def auroc(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the chance that a pixel of the mask is higher than one outside it, ties half: 0.5 for noise.

    A blurred blob near the lesion already scores high here, because most pixels are far away from both.
    """
    values, inside = _pair(maps, masks)
    k = inside.sum(axis=1)
    rank_sum = (stats.rankdata(values, axis=1) * inside).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rank_sum - k * (k + 1) / 2) / (k * (inside.shape[1] - k))


def iou_otsu(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the intersection over union of the mask and the map cut at Otsu's threshold; 0 for a map without contrast.

    As in Saporta et al. 2022, doi 10.1038/s42256-022-00536-x.
    """
    values, inside = _pair(maps, masks)
    flat_map = values.max(axis=1) == values.min(axis=1)
    cut = np.array([np.inf if flat else otsu(row) for row, flat in zip(values, flat_map, strict=True)])
    return _scored(values, inside, _iou(values >= cut[:, None], inside))


def iou(regions: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the intersection over union of a region and the mask, both bool (N, H, W): float64 (N,)."""
    return _iou(_rows(regions), _rows(masks))


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """Return the threshold, at or above which is foreground, that best splits a histogram in two (Otsu 1979).

    values: float, not all equal.
    """
    edges = np.histogram_bin_edges(values, bins)
    # scikit-image returns the centre of the last bin of the background; its upper edge keeps the bin together.
    return float(edges[np.searchsorted(edges, threshold_otsu(values, bins))])


def gini(maps: np.ndarray) -> np.ndarray:
    """Return the Gini coefficient of the values: 0 for a flat map, 1/3 for uniform noise, 1 - 1/n for a single pixel.

    As a measure of sparsity: Chalasani et al. 2020, arXiv 1810.06583.
    """
    values = np.sort(_flat(maps), axis=1)
    n = values.shape[1]
    with np.errstate(invalid="ignore"):
        return values @ (2 * np.arange(1, n + 1) - n - 1) / (n * values.sum(axis=1))


def entropy(maps: np.ndarray) -> np.ndarray:
    """Return the Shannon entropy of the map's mass, relative to that of a flat map: 0 for a single pixel."""
    values = _flat(maps)
    with np.errstate(invalid="ignore"):
        share = values / values.sum(axis=1, keepdims=True)
    plogp = np.zeros_like(share)
    np.multiply(share, np.log(share, where=share > 0, out=np.zeros_like(share)), out=plogp)
    return -plogp.sum(axis=1) / np.log(values.shape[1])


def outside_head(maps: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """Return the share of the map's mass outside the head, lower is better: all that tumour-free images can show.

    heads: bool (N, H, W), from `head`. Chance is the background's share of the pixels.
    """
    values, inside = _pair(maps, heads)
    with np.errstate(invalid="ignore"):
        return (values * ~inside).sum(axis=1) / values.sum(axis=1)


def head(images: np.ndarray) -> np.ndarray:
    """Return bool (N, H, W): the head in images (N, H, W) of any scale from 0: large bright parts, holes filled."""
    return np.array([_head(image) for image in images], dtype=bool).reshape(images.shape)


def _head(image: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(image > CONTENT_LEVEL * np.percentile(image, 99))
    if count == 0:
        return np.zeros(image.shape, bool)
    areas = np.bincount(labels.ravel())[1:]
    parts = np.isin(labels, 1 + np.flatnonzero(areas >= CONTENT_PART * areas.max()))
    return ndimage.binary_fill_holes(parts)


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the mean structural similarity (Wang et al. 2004; Gaussian window of sigma 1.5) of maps with maximum 1.

    Maps are scaled to that maximum, and have at least 11 x 11 pixels. 1 for equal maps, also for two empty ones.
    """
    pairs = zip(_unit_peak(first), _unit_peak(second), strict=True)
    settings = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return np.array([structural_similarity(*pair, **settings) for pair in pairs])


class Randomisation(NamedTuple):
    """Maps of the trained network compared with those of R networks with random weights.

    spearman, ssim: float64 (R, N), per random network and image; NaN where a map is constant.
    spearman_reference, ssim_reference: mean similarity of the trained network's maps of two different images.
    passed: whether the mean of both similarities is below its reference: random weights change a map more than another
        image does. A method that fails shows what the image looks like, whatever the network learned.
    """

    spearman: np.ndarray
    ssim: np.ndarray
    spearman_reference: float
    ssim_reference: float
    passed: bool


def randomisation(maps: np.ndarray, randomised: np.ndarray, seed: int, pairs: int = 50) -> Randomisation:
    """Run the model-parameter randomisation test (Adebayo et al. 2018, arXiv 1810.03292), all layers at once.

    maps: (N, H, W), N >= 2, from the trained network. randomised: (R, N, H, W) of the same images and targets, from R
    networks with random weights. The rule for passing is that of Arun et al. 2021, arXiv 2008.02766.
    The test finds methods that ignore the network; it can't rank those that pass (Binder et al. 2023).
    """
    rng = np.random.default_rng(seed)
    first = rng.integers(len(maps), size=pairs)
    second = (first + rng.integers(1, len(maps), size=pairs)) % len(maps)
    rank, structure = (np.stack([measure(maps, others) for others in randomised]) for measure in (spearman, ssim))
    references = [_mean(measure(maps[first], maps[second])) for measure in (spearman, ssim)]
    # A comparison with NaN (constant maps) is false: not passed.
    passed = _mean(rank) < references[0] and _mean(structure) < references[1]
    return Randomisation(rank, structure, references[0], references[1], passed)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def skill(value: float, baseline: float, ceiling: float) -> float:
    """Return how far a score gets from the best trivial map (0) to the best that the grid allows (1).

    Below 0: worse than trivial. NaN where the baseline reaches the ceiling: the score can't tell methods apart then.
    """
    return (value - baseline) / (ceiling - baseline) if ceiling > baseline else float("nan")


def _rows(images: np.ndarray) -> np.ndarray:
    """Return (N, pixels), also for N = 0, where -1 can't stand for the number of pixels."""
    return images.reshape(len(images), images.shape[1] * images.shape[2])


def _flat(maps: np.ndarray) -> np.ndarray:
    """Return float64 (N, pixels), negatives set to 0."""
    values = np.maximum(_rows(np.asarray(maps, np.float64)), 0)
    if not np.isfinite(values).all():
        raise ValueError("a map holds NaN or infinity")
    return values


def _pair(maps: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if maps.shape != masks.shape or masks.dtype != bool:
        raise ValueError(
            f"maps {maps.shape} and masks {masks.shape} {masks.dtype}: masks must be bool of the same shape"
        )
    return _flat(maps), _rows(masks)


def _scored(values: np.ndarray, inside: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the score with 0 where the map is all zero and NaN where the mask is empty."""
    score = np.where(values.any(axis=1), score, 0.0)
    return np.where(inside.any(axis=1), score, np.nan)


def _iou(regions: np.ndarray, inside: np.ndarray) -> np.ndarray:
    union = (regions | inside).sum(axis=1)
    return (regions & inside).sum(axis=1) / np.maximum(union, 1)


def _unit_peak(maps: np.ndarray) -> np.ndarray:
    values = _flat(maps).reshape(maps.shape)
    peak = values.max(axis=(1, 2), keepdims=True)
    return np.divide(values, peak, where=peak > 0, out=np.zeros_like(values))


LOCALISATION = {
    "pointing_game": pointing_game,
    "rma": mass_accuracy,
    "rra": rank_accuracy,
    "auroc": auroc,
    "iou_otsu": iou_otsu,
}
