"""Score the consensus of several networks' maps.

Is it better than the best single network's map, and not merely because it is smoother? Do maps that agree point at the
tumour more often, and does agreement tell right classes from wrong ones? And which network's own maps put more of their
mass into the tumour?
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mri.base.intervals import estimate, estimate_difference, estimate_mean, resample_weights
from mri.base.params import Params
from mri.data.dataset import Dataset
from mri.evaluation.comparison import compare_values
from mri.evaluation.scores import area_under_roc
from mri.explanation.faithfulness import predictor, road_scores
from mri.explanation.localisation import of_score
from mri.explanation.maps import class_grids
from mri.explanation.outlines import fit_threshold, score_outline
from mri.explanation.sampling import (
    calls_a_tumour,
    choose_evenly,
    choose_masked,
    choose_tests,
    read_probabilities,
)
from mri.explanation.scores import LOCALISATION, entropy, iou, localisation, mass_accuracy
from mri.explanation.trivial_maps import blurred_to_entropy
from mri.inference.consensus import Consensus, combine, confidence_weights, consensus_class
from mri.inference.gradcam import Cells, upsample
from mri.inference.overlays import region
from mri.networks.models import Classifier

# Averaging blurs, and blur alone can raise a score: so the second rival is the best of the single maps blurred alike.
LEADS = ("lead_over_best_single", "lead_over_best_single_blurred_alike")
TESTS = 4  # test images whose agreement is measured, for each one whose map is scored


def grids_for_consensus(params: Params, data: Dataset, model: Classifier) -> dict[str, np.ndarray]:
    """Return what `score_consensus` needs of one network: Grad-CAM of every class on its grid, (N, C, h, w).

    Of the images of `choose`, which are the same for all networks, and the places of the grid's cells in `cells`.
    """
    grids = {
        f"grids/{part}": class_grids(model, data.pixels[images["row"].to_numpy(int)])
        for part, images in choose(params, data).items()
        if len(images)
    }
    return grids | {"cells": np.array(model.cells())}


def choose(params: Params, data: Dataset) -> dict[str, pd.DataFrame]:
    """Return the images that the consensus is scored on: masked test and validation images, and tests of all kinds."""
    return {
        "masked": choose_masked(data, params.explain.images),
        "val": choose_masked(data, params.explain.images, "val"),
        "tests": choose_tests(data, TESTS * params.explain.images, params.seed),
    }


def score_consensus(
    params: Params, data: Dataset, networks: dict[str, Classifier], predictions: Path, maps: Path
) -> dict[str, Any]:
    """Return the content of metrics/consensus.json; {"n": 0, "why": ...} where there is nothing to score.

    predictions: the folder of NAME.csv. maps: the folder of NAME.npz, each network's maps of `choose_masked` and its
    `grids_for_consensus`.
    """
    images = choose(params, data)
    if len(networks) < 2:
        return {"n": 0, "why": "a consensus needs two networks"}
    if images["masked"].empty:
        return {"n": 0, "why": "no test image has a mask"}
    stored = {name: np.load(maps / f"{name}.npz") for name in networks}

    def maps_of(part: str) -> MapSet:
        return _map_set(data, images[part], stored, part, predictions)

    val = None if images["val"].empty else maps_of("val")
    return {
        **_leads_on_masked(params, data, maps_of("masked"), val, networks),
        "agreement": _agreement_and_classes(params, data, maps_of("tests")),
        "networks_by_rma": _compare_networks(params, data, images["masked"], stored),
    }


@dataclass(frozen=True)
class MapSet:
    """N images and the Grad-CAMs of the class that all networks together call them.

    images: rows of the index. pixels: uint8 (N, S, S). masks: bool (N, S, S), empty where there is none.
    probabilities: (M, N, C). target: int (N,). single: {network: (N, S, S)}. consensus: of these.
    """

    images: pd.DataFrame
    pixels: np.ndarray
    masks: np.ndarray
    probabilities: np.ndarray
    target: np.ndarray
    single: dict[str, np.ndarray]
    consensus: Consensus

    def __getitem__(self, where: np.ndarray) -> MapSet:
        single = {name: maps[where] for name, maps in self.single.items()}
        combined = self.consensus.of(where)
        images, pixels, masks = self.images.iloc[where], self.pixels[where], self.masks[where]
        return MapSet(images, pixels, masks, self.probabilities[:, where], self.target[where], single, combined)

    def tumours(self, classes: list[str]) -> MapSet:
        """Return the part that has a mask and is called a tumour."""
        return self[np.flatnonzero(calls_a_tumour(classes, self.target) & self.masks.any(axis=(1, 2)))]


def _map_set(data: Dataset, images: pd.DataFrame, stored: dict[str, Any], part: str, predictions: Path) -> MapSet:
    probabilities = read_probabilities(predictions, list(stored), images["id"], data.classes)
    target = consensus_class(probabilities)
    pixels = data.pixels[images["row"].to_numpy(int)]
    size, row = (pixels.shape[1], pixels.shape[2]), np.arange(len(images))
    single = {
        name: upsample(arrays[f"grids/{part}"][row, target], size, Cells(*arrays["cells"].tolist()))
        for name, arrays in stored.items()
    }
    combined = combine(np.stack(list(single.values())), confidence_weights(probabilities, target))
    return MapSet(images, pixels, data.outlines(images), probabilities, target, single, combined)


@dataclass(frozen=True)
class Rivals:
    """One score of the consensus, of each single network, and of each one's map blurred to be as spread out.

    Arrays (N,), higher is better. weights: (B, N) from `resample_weights`.
    """

    score: str
    consensus: np.ndarray
    single: dict[str, np.ndarray]
    blurred: dict[str, np.ndarray]
    weights: np.ndarray


def leads(scores: list[Rivals]) -> dict[str, Any]:
    """Return for each score the best single network, the leads of the consensus over it, and the verdict.

    The best network is chosen for each score separately, on the same images, to the disadvantage of the consensus.
    beats_best_single: whether both leads have an interval above 0, including the one over mere blur.
    """
    result: dict[str, Any] = {
        "best_single": {},
        "consensus": {},
        **{lead: {} for lead in LEADS},
        "beats_best_single": {},
    }
    for rivals in scores:
        name = rivals.score
        result["best_single"][name] = _best(rivals.single)
        result["consensus"][name] = estimate_mean(rivals.consensus, rivals.weights)
        for lead, others in zip(LEADS, (rivals.single, rivals.blurred), strict=True):
            result[lead][name] = estimate_difference(rivals.consensus, others[_best(others)], rivals.weights)
        result["beats_best_single"][name] = all(result[lead][name]["low"] > 0 for lead in LEADS)
    return result


def _best(scores: dict[str, np.ndarray]) -> str:
    return max(scores, key=lambda name: float(scores[name].mean()))


def _leads_on_masked(
    params: Params, data: Dataset, masked: MapSet, val: MapSet | None, networks: dict[str, Classifier]
) -> dict[str, Any]:
    """Return n, `leads`, the `outline` of the consensus and `_agreement_and_hits`, on images called a tumour."""
    maps = masked.tumours(data.classes)
    if not len(maps.target):
        return {"n": 0, "why": "no tumour is called"}
    blurred = _blurred(maps)
    weights = resample_weights(maps.images["group"], params.evaluate.resamples, params.seed)
    rivals = _localised(maps, blurred, weights)
    outline: dict[str, Any] = {}
    learned = val.tumours(data.classes) if val is not None else None
    if learned is not None and len(learned.target):
        overlaps, outline = _outlined(maps, blurred, learned, weights)
        rivals.append(overlaps)
    few = choose_evenly(maps.images["label"].tolist(), params.explain.changed, params.seed)
    best = _best({name: mass_accuracy(values, maps.masks) for name, values in maps.single.items()})
    road = _road(params, list(networks.values()), maps[few], blurred[best][few], best)
    return {
        "n": len(maps.target),
        "n_road": len(few),
        **leads([*rivals, road]),
        **({"outline": outline} if outline else {}),
        "hits": _agreement_and_hits(maps, outline.get("threshold"), weights),
    }


def _blurred(maps: MapSet) -> dict[str, np.ndarray]:
    """Return the single maps, blurred to be as spread out as the consensus."""
    spread = entropy(maps.consensus.map)
    return {name: blurred_to_entropy(values, spread) for name, values in maps.single.items()}


def _localised(maps: MapSet, blurred: dict[str, np.ndarray], weights: np.ndarray) -> list[Rivals]:
    consensus = localisation(maps.consensus.map, maps.masks)
    single, spread = (
        {name: localisation(values, maps.masks) for name, values in rivals.items()} for rivals in (maps.single, blurred)
    )
    return [
        Rivals(score, consensus[score], of_score(score, single), of_score(score, spread), weights)
        for score in LOCALISATION
    ]


def _outlined(
    maps: MapSet, blurred: dict[str, np.ndarray], val: MapSet, weights: np.ndarray
) -> tuple[Rivals, dict[str, Any]]:
    """Return the rivals by IoU, each cut where its own validation maps fit best, and the outline of the consensus."""

    def overlaps(tests: np.ndarray, learned: np.ndarray) -> np.ndarray:
        return iou(region(tests, fit_threshold(learned, val.masks)), maps.masks)

    spread = _blurred(val)
    threshold = fit_threshold(val.consensus.map, val.masks)
    rivals = Rivals(
        "iou",
        iou(region(maps.consensus.map, threshold), maps.masks),
        {name: overlaps(values, val.single[name]) for name, values in maps.single.items()},
        {name: overlaps(values, spread[name]) for name, values in blurred.items()},
        weights,
    )
    return rivals, score_outline(maps.consensus.map, maps.masks, threshold, weights)


def _road(params: Params, networks: list[Classifier], maps: MapSet, blurred: np.ndarray, best: str) -> Rivals:
    """Return the rivals by ROAD, with the mean probability of all networks.

    Against one single network, the `best` by mass: all of them would cost minutes.
    """
    weights = resample_weights(maps.images["group"], params.evaluate.resamples, params.seed)
    predict = predictor(*networks)

    def score(values: np.ndarray) -> np.ndarray:
        return road_scores(predict, maps.pixels, values, maps.target, params.seed)

    return Rivals("road", score(maps.consensus.map), {best: score(maps.single[best])}, {best: score(blurred)}, weights)


def _agreement_and_hits(maps: MapSet, threshold: float | None, weights: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return how far agreement goes with better maps: rank correlations with scores of the combined map.

    {"agreement" or "rank_correlation": {score: {value, low, high}}}. With images on which fewer than two networks have
    a say left out.
    """
    scores = localisation(maps.consensus.map, maps.masks)
    hits = {name: scores[name] for name in ("pointing_game", "rma")}
    if threshold is not None:
        hits["iou"] = iou(region(maps.consensus.map, threshold), maps.masks)
    signs = {"agreement": maps.consensus.agreement, "rank_correlation": maps.consensus.correlation}
    return {
        sign: {name: rank_correlation(values, scores, weights) for name, scores in hits.items()}
        for sign, values in signs.items()
    }


def rank_correlation(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return {value, low, high} of Spearman's correlation of two (N,); images with NaN are left out.

    weights: (B, N) of the bootstrap; a resample weighs the images' ranks among all. None three times for constants.
    """
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 2 or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return {"value": None, "low": None, "high": None}
    a, b = (stats.rankdata(values[known]) for values in (first, second))
    rows = np.concatenate([np.ones((1, known.sum())), weights[:, known]])
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = rows / rows.sum(axis=1, keepdims=True)
        mean_a, mean_b = rows @ a, rows @ b
        covariance = rows @ (a * b) - mean_a * mean_b
        samples = covariance / np.sqrt((rows @ a**2 - mean_a**2) * (rows @ b**2 - mean_b**2))
    return estimate(float(samples[0]), samples[1:])


def _agreement_and_classes(params: Params, data: Dataset, maps: MapSet) -> dict[str, Any]:
    """Return how well agreement tells right classes from wrong ones on test images, with or without a tumour.

    AUROCs, 0.5 is chance, left out when all are right; beside them the networks' mean confidence, which needs no map.
    """
    overlap, correlation = maps.consensus.agreement, maps.consensus.correlation
    right = maps.target == maps.images["label"].map(data.classes.index).to_numpy()
    result: dict[str, Any] = {
        "n": len(right),
        "top_overlap": float(np.nanmean(overlap)),
        "rank_correlation": float(np.nanmean(correlation)),
        "disputed_area": float(maps.consensus.disputed_area.mean()),
        "wrong": int((~right).sum()),
    }
    if right.all() or not right.any():
        return result
    weights = resample_weights(maps.images["group"], params.evaluate.resamples, params.seed)
    weights = np.concatenate([np.ones((1, len(right))), weights])
    signs = {
        "auroc": overlap,
        "rank_correlation_auroc": correlation,
        "confidence_auroc": maps.probabilities.mean(0).max(1),
    }
    with np.errstate(invalid="ignore"):
        samples = {name: area_under_roc(np.nan_to_num(sign), right, weights) for name, sign in signs.items()}
    samples["confidence_over_agreement"] = samples["confidence_auroc"] - samples["auroc"]
    return result | {
        f"{name}_of_being_right": estimate(float(aurocs[0]), aurocs[1:]) for name, aurocs in samples.items()
    }


def _compare_networks(
    params: Params, data: Dataset, images: pd.DataFrame, stored: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Compare the networks' own maps by their mass in the tumour, pair by pair: {method: pairs}.

    On the images that both networks call a tumour.
    """
    masks = data.masks_of(images)
    counted = {
        name: calls_a_tumour(data.classes, arrays["logits"].argmax(1)) & masks.any(axis=(1, 2))
        for name, arrays in stored.items()
    }
    return {
        method: compare_values(
            {name: np.where(counted[name], mass_accuracy(stored[name][method], masks), np.nan) for name in stored},
            images["group"],
            params.evaluate.resamples,
            params.seed,
        )
        for method in params.explain.methods
    }
