"""How good a map is: where its mass lies, how concentrated it is, whether it depends on what the network learned.

Maps are float (N, H, W) and raw; negative values count as zero. Masks are bool (N, H, W). A score is float64 (N,),
one per image, so that intervals and paired tests can be taken over it. With k pixels in the mask of n, p = k / n.

An all-zero map says nothing and gets 0 from every score of localisation but AUROC and AUPRC, which give ties their
chance level; `empty` counts such maps, because leaving them out would flatter a method. Where a score is not defined
(an empty mask, the sparsity of an empty map) it is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage, special, stats

from mri.data.images import CONTENT_LEVEL, CONTENT_PART


@dataclass(frozen=True)
class Score:
    """What a reader must know of a score: what it measures, which way is better (None: neither), and its source."""

    category: str
    better: str | None
    source: str


SCORES = {
    "pointing_game": Score("localisation", "higher", "Zhang et al. 2018, doi 10.1007/s11263-017-1059-x"),
    "rma": Score("localisation", "higher", "Arras et al. 2022, doi 10.1016/j.inffus.2021.11.008"),
    "rra": Score("localisation", "higher", "Arras et al. 2022, doi 10.1016/j.inffus.2021.11.008"),
    "auroc": Score("localisation", "higher", "area under the ROC of pixels against the mask, mid-ranks for ties"),
    "auprc": Score("localisation", "higher", "Arun et al. 2021, arXiv 2008.02766"),
    "iou_otsu": Score("localisation", "higher", "Saporta et al. 2022, doi 10.1038/s42256-022-00536-x"),
    "deletion": Score("faithfulness", "lower", "Petsiuk et al. 2018, arXiv 1806.07421"),
    "insertion": Score("faithfulness", "higher", "Petsiuk et al. 2018, arXiv 1806.07421"),
    "road": Score("faithfulness", "higher", "Rong et al. 2022, arXiv 2202.00449"),
    "max_sensitivity": Score("robustness", "lower", "Yeh et al. 2019, arXiv 1901.09392"),
    "randomisation_spearman": Score("randomisation", "lower", "Adebayo et al. 2018, arXiv 1810.03292"),
    "randomisation_ssim": Score("randomisation", "lower", "Arun et al. 2021, arXiv 2008.02766"),
    "gini": Score("complexity", None, "Chalasani et al. 2020, arXiv 1810.06583"),
    "entropy": Score("complexity", None, "Shannon entropy of the map's mass, 1 for a flat map"),
    "outside_head": Score("plausibility", "lower", "share of the map's mass on the background"),
}

LOCALISATION = tuple(name for name, score in SCORES.items() if score.category == "localisation")


def localisation(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """All scores of localisation: {name: float64 (N,)}; NaN where a mask is empty."""
    functions = (pointing_game, mass_accuracy, rank_accuracy, auroc, auprc, iou_otsu)
    return {name: function(maps, masks) for name, function in zip(LOCALISATION, functions, strict=True)}


def chance(masks: np.ndarray) -> dict[str, np.ndarray]:
    """What independent uniform noise is expected to score on these masks: {name: float64 (N,)}.

    IoU: Otsu's method halves uniform noise, and half of the pixels overlap a mask by (k/2) / (n/2 + k/2) = p/(1 + p).
    AUPRC: a little above p, for the precision at the i-th place, given a hit there, is (1 + (i-1)(k-1)/(n-1)) / i.
    """
    inside = _rows(masks)
    n, k = inside.shape[1], np.where(inside.any(axis=1), inside.sum(axis=1), np.nan)
    p = k / n
    mean_reciprocal = (special.digamma(n + 1) + np.euler_gamma) / n  # (1 + 1/2 + ... + 1/n) / n
    levels = dict.fromkeys(("pointing_game", "rma", "rra"), p)
    auprc_level = mean_reciprocal + (1 - mean_reciprocal) * (k - 1) / (n - 1)
    return levels | {"auroc": 0.5 + 0 * p, "auprc": auprc_level, "iou_otsu": p / (1 + p)}


def empty(maps: np.ndarray) -> np.ndarray:
    """bool (N,): maps without any positive value."""
    return np.logical_not(_flat(maps).any(axis=1))


def pointing_game(maps: np.ndarray, masks: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Share of the highest pixels that lie in the mask: 1 or 0, in between only for ties, so p for a constant map.

    tolerance: how far outside the mask still counts, as a share of the image's height; state it with the score.
    """
    if tolerance:
        radius = tolerance * masks.shape[1]
        reachable = [ndimage.distance_transform_edt(~mask) <= radius if mask.any() else mask for mask in masks]
        masks = np.array(reachable).reshape(masks.shape)
    values, inside = _pair(maps, masks)
    peak = values == values.max(axis=1, keepdims=True)
    return _scored(values, inside, (peak & inside).sum(axis=1) / peak.sum(axis=1))


def mass_accuracy(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Relevance mass accuracy (RMA): share of the map's sum inside the mask. 1 at best, p for noise or a flat map."""
    values, inside = _pair(maps, masks)
    with np.errstate(invalid="ignore"):
        return _scored(values, inside, (values * inside).sum(axis=1) / values.sum(axis=1))


def rank_accuracy(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Relevance rank accuracy (RRA): share of the k highest pixels inside the mask of k pixels; p for noise.

    Pixels tied at the k-th place count by their expected share, so the order of pixels in memory has no say.
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
    """Chance that a pixel of the mask is higher than one outside it (Mann-Whitney, ties half): 0.5 for noise.

    A blurred blob near the lesion already scores high here, because most pixels are far away from both.
    """
    values, inside = _pair(maps, masks)
    k = inside.sum(axis=1)
    rank_sum = (stats.rankdata(values, axis=1) * inside).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rank_sum - k * (k + 1) / 2) / (k * (inside.shape[1] - k))


def auprc(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Average precision of pixels against the mask: 1 at best, p for a flat map, hardly more for noise."""
    pairs = zip(*_pair(maps, masks), strict=True)
    from sklearn.metrics import (
        average_precision_score,
    )  # loads slowly, and the service needs other parts of this module

    return np.array([average_precision_score(m, a) if m.any() else np.nan for a, m in pairs], dtype=np.float64)


def iou_otsu(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Intersection over union of the mask and the map cut at Otsu's threshold; 0 for a map without contrast."""
    values, inside = _pair(maps, masks)
    flat_map = values.max(axis=1) == values.min(axis=1)
    cut = np.array([np.inf if flat else otsu(row) for row, flat in zip(values, flat_map, strict=True)])
    return _scored(values, inside, _iou(values >= cut[:, None], inside))


def iou_at(maps: np.ndarray, masks: np.ndarray, threshold: float) -> np.ndarray:
    """Intersection over union of the mask and the map cut at `threshold` times its own maximum."""
    values, inside = _pair(maps, masks)
    return _scored(values, inside, _iou(values > threshold * values.max(axis=1, keepdims=True), inside))


def iou(found: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Intersection over union of a region and the mask, both bool (N, H, W): float64 (N,)."""
    return _iou(_rows(found), _rows(masks))


def best_threshold(maps: np.ndarray, masks: np.ndarray, steps: int = 50) -> float:
    """The threshold for `iou_at` with the highest mean on these images, which must not be the ones it is judged on."""
    candidates = np.arange(steps) / steps
    means = [np.nanmean(iou_at(maps, masks, threshold)) for threshold in candidates]
    return float(candidates[int(np.argmax(means))])


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold, at or above which is foreground, that best parts a histogram in two (Otsu 1979)."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    mean_below = np.cumsum(counts * centres)[:-1] / below
    mean_above = np.cumsum((counts * centres)[::-1])[::-1][1:] / above
    # Within a gap of the histogram all cuts are equally good; argmax takes the lowest. The bin's upper edge, not its
    # centre, keeps its values together.
    return float(edges[1 + np.argmax(below * above * (mean_below - mean_above) ** 2)])


def gini(maps: np.ndarray) -> np.ndarray:
    """Gini coefficient of the values: 0 for a flat map, 1/3 for uniform noise, 1 - 1/n for a single pixel."""
    values = np.sort(_flat(maps), axis=1)
    n = values.shape[1]
    with np.errstate(invalid="ignore"):
        return values @ (2 * np.arange(1, n + 1) - n - 1) / (n * values.sum(axis=1))


def entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy of the map's mass over the log of the pixel count: 1 for a flat map, 0 for a single pixel."""
    values = _flat(maps)
    with np.errstate(invalid="ignore"):
        share = values / values.sum(axis=1, keepdims=True)
    plogp = np.zeros_like(share)
    np.multiply(share, np.log(share, where=share > 0, out=np.zeros_like(share)), out=plogp)
    return -plogp.sum(axis=1) / np.log(values.shape[1])


def outside_head(maps: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """Share of the map's mass where there is no head; the one score of place that tumour-free images allow.

    heads: bool (N, H, W), from `head`. Chance is the background's share of the pixels.
    """
    values, inside = _pair(maps, heads)
    with np.errstate(invalid="ignore"):
        return (values * ~inside).sum(axis=1) / values.sum(axis=1)


def head(images: np.ndarray) -> np.ndarray:
    """bool (N, H, W): the head in images (N, H, W) of any scale from 0: large bright parts, their holes filled."""
    return np.array([_head(image) for image in images], dtype=bool).reshape(images.shape)


def _head(image: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(image > CONTENT_LEVEL * np.percentile(image, 99))
    if count == 0:
        return np.zeros(image.shape, bool)
    areas = np.bincount(labels.ravel())[1:]
    parts = np.isin(labels, 1 + np.flatnonzero(areas >= CONTENT_PART * areas.max()))
    return ndimage.binary_fill_holes(parts)


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlation of two maps of one image, -1 to 1; NaN where one is constant."""
    ranks = [stats.rankdata(_flat(maps), axis=1) for maps in (first, second)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean structural similarity (Wang et al. 2004; Gaussian window of sigma 1.5) of maps scaled to maximum 1.

    Maps have at least 11 x 11 pixels. 1 for equal maps, also for two empty ones.
    """
    a, b = _unit_peak(first), _unit_peak(second)

    def mean(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, sigma=(0, 1.5, 1.5), truncate=3.5)

    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    margin = 5  # where the window would leave the image
    return index[:, margin:-margin, margin:-margin].mean(axis=(1, 2))


class Randomisation(NamedTuple):
    """Maps of the trained network against those of R networks with random weights.

    spearman, ssim: float64 (R, N), per random network and image; NaN where a map is constant.
    spearman_reference, ssim_reference: mean similarity of the trained network's maps of two different images.
    passed: whether the mean of both similarities falls below its reference: random weights change a map more than
        another image does. A method that fails draws what the image looks like, whatever the network learned.
    """

    spearman: np.ndarray
    ssim: np.ndarray
    spearman_reference: float
    ssim_reference: float
    passed: bool


def randomisation(maps: np.ndarray, randomised: np.ndarray, seed: int, pairs: int = 50) -> Randomisation:
    """The model-parameter randomisation test (Adebayo et al. 2018), all layers at once; rule: Arun et al. 2021.

    maps: (N, H, W), N >= 2, from the trained network. randomised: (R, N, H, W) of the same images and targets, from R
    networks with random weights.
    The test sorts out methods that ignore the network; it can't rank those that pass (Binder et al. 2023).
    """
    rng = np.random.default_rng(seed)
    first = rng.integers(len(maps), size=pairs)
    second = (first + rng.integers(1, len(maps), size=pairs)) % len(maps)
    rank, structure = (np.stack([measure(maps, made) for made in randomised]) for measure in (spearman, ssim))
    references = [_mean(measure(maps[first], maps[second])) for measure in (spearman, ssim)]
    # A comparison with NaN (constant maps) is false: not passed.
    passed = _mean(rank) < references[0] and _mean(structure) < references[1]
    return Randomisation(rank, structure, references[0], references[1], passed)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def skill(value: float, baseline: float, ceiling: float) -> float:
    """How far a score gets from the best trivial map (0) to the best the grid allows (1); below 0: worse than trivial.

    NaN where the baseline reaches the ceiling, for then the score can't tell methods apart.
    """
    return (value - baseline) / (ceiling - baseline) if ceiling > baseline else float("nan")


def _rows(images: np.ndarray) -> np.ndarray:
    """(N, pixels), also for N = 0, where -1 can't stand for the number of pixels."""
    return images.reshape(len(images), images.shape[1] * images.shape[2])


def _flat(maps: np.ndarray) -> np.ndarray:
    """Float64 (N, pixels), negatives set to 0."""
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
    """0 where the map is all zero, NaN where the mask is empty."""
    score = np.where(values.any(axis=1), score, 0.0)
    return np.where(inside.any(axis=1), score, np.nan)


def _iou(found: np.ndarray, inside: np.ndarray) -> np.ndarray:
    union = (found | inside).sum(axis=1)
    return (found & inside).sum(axis=1) / np.maximum(union, 1)


def _unit_peak(maps: np.ndarray) -> np.ndarray:
    values = _flat(maps).reshape(maps.shape)
    peak = values.max(axis=(1, 2), keepdims=True)
    return np.divide(values, peak, where=peak > 0, out=np.zeros_like(values))
