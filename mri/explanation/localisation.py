"""Score maps of one network against tumour masks, beside chance, trivial maps and the ceiling of the method's grid.

Maps explain the predicted class. An image counts when it has a mask and the network calls a tumour, right or wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.base.intervals import estimate, estimate_difference, estimate_mean, resample_weights
from mri.data.dataset import Dataset
from mri.explanation.maps import Grid, explain_many, grids_of
from mri.explanation.outlines import fit_threshold, score_outline
from mri.explanation.sampling import calls_a_tumour
from mri.explanation.scores import LOCALISATION, chance, empty, iou, localisation, skill
from mri.explanation.trivial_maps import grid_oracle, trivial_maps, usual_places
from mri.inference.overlays import region
from mri.networks.models import Classifier
from mri.networks.predict import predict_logits, to_tensor

OUTLINED = ("gradcam", "gradcam_fine")  # smooth maps, of which an outline can be drawn
USUAL_PLACE = "usual_place"
SIZES = ("small", "middle", "large")  # thirds of the outlined test tumours by their area
BY = ("label", "size", "series", "source")  # what scores are divided by, where the index has it
BY_SCORES = ("pointing_game", "pointing_near", "rma", "iou")


def fit_thresholds(model: Classifier, data: Dataset, images: pd.DataFrame) -> dict[str, float]:
    """Return where to cut maps, as shares of their maxima, from validation images with masks: {map: share}.

    Of the outlined methods and of the usual place; empty where the network calls none of the images a tumour.
    """
    if images.empty:
        return {}
    pixels, masks = data.pixels[images["row"].to_numpy()], data.masks_of(images)
    called = predict_logits(model, pixels).argmax(1)
    counted = calls_a_tumour(data.classes, called) & masks.any(axis=(1, 2))
    if not counted.any():
        return {}
    called, masks = called[counted], masks[counted]
    maps = explain_many(model, to_tensor(pixels[counted]), called, OUTLINED)
    maps[USUAL_PLACE] = usual_places(data, called)
    return {name: fit_threshold(values, masks) for name, values in maps.items()}


def score_localisation(
    model: Classifier,
    data: Dataset,
    images: pd.DataFrame,
    logits: np.ndarray,
    maps: dict[str, np.ndarray],
    thresholds: dict[str, float],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return `summarise` of the images that count, and in `grids` how many cells each coarse method has.

    images: rows of the index, with masks. logits: (N, C). maps: {method: (N, S, S)} of the predicted classes.
    thresholds: what `fit_thresholds` returns; methods and baselines that have one get an `outline`. Outlined methods
    are also divided `by` class, size and origin of the tumour.
    """
    pixels, masks = data.pixels[images["row"].to_numpy()], data.masks_of(images)
    called = logits.argmax(1)
    counted = calls_a_tumour(data.classes, called) & masks.any(axis=(1, 2))
    grids = grids_of(model, pixels)
    shape = {"grids": {method: "x".join(map(str, grid.shape)) for method, grid in grids.items()}}
    frame, masks = _with_size(images, masks)[counted], masks[counted]
    maps = {method: values[counted] for method, values in maps.items()}
    usual = usual_places(data, called[counted])
    groups = frame["group"].to_numpy()
    scores = summarise(maps, pixels[counted], masks, groups, grids, resamples, seed, usual)
    if scores["n"] == 0:
        return scores | shape
    weights = resample_weights(groups, resamples, seed)
    for name, values in {**maps, USUAL_PLACE: usual}.items():
        row = scores["baselines" if name == USUAL_PLACE else "methods"][name]
        if name in thresholds:
            row["outline"] = score_outline(values, masks, thresholds[name], weights)
        if name in OUTLINED:
            row["by"] = _divide(frame, values, masks, thresholds.get(name), resamples, seed)
    return scores | shape


def _with_size(images: pd.DataFrame, masks: np.ndarray) -> pd.DataFrame:
    """Return the images with their tumours' `size`, so divided that all networks have the same thirds."""
    rank = pd.Series(masks.sum(axis=(1, 2)), images.index).rank(method="first", pct=True)
    return images.assign(size=pd.cut(rank, [0, 1 / 3, 2 / 3, 1], labels=list(SIZES)).astype(str))


def _divide(
    frame: pd.DataFrame, maps: np.ndarray, masks: np.ndarray, threshold: float | None, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return {column: {value: {n, groups, score: {value, low, high}}}} of the columns of `BY` that exist."""
    values = localisation(maps, masks)
    if threshold is not None:
        values["iou"] = iou(region(maps, threshold), masks)
    result: dict[str, dict[str, Any]] = {}
    for column in (name for name in BY if name in frame):
        kinds = frame[column].replace("", "unknown").to_numpy(str)
        result[column] = {kind: _part(values, kinds == kind, frame, resamples, seed) for kind in np.unique(kinds)}
    return result


def _part(
    values: dict[str, np.ndarray], chosen: np.ndarray, frame: pd.DataFrame, resamples: int, seed: int
) -> dict[str, Any]:
    groups = frame["group"].to_numpy()[chosen]
    weights = resample_weights(groups, resamples, seed)
    scores = {name: estimate_mean(values[name][chosen], weights) for name in BY_SCORES if name in values}
    return {"n": int(chosen.sum()), "groups": len(np.unique(groups)), **scores}


def summarise(
    maps: dict[str, np.ndarray],
    pixels: np.ndarray,
    masks: np.ndarray,
    groups: np.ndarray,
    grids: dict[str, Grid],
    resamples: int,
    seed: int,
    usual: np.ndarray,
) -> dict[str, Any]:
    """Return every method's scores: value, interval, chance level, lead over chance and over the best trivial map, and
    skill between that map (0) and the ceiling (1).

    maps: {method: (N, S, S)}. pixels: uint8 (N, S, S). masks: bool (N, S, S), none empty. groups: (N,), resampled
    together. grids: of the methods that have a coarse one; the others' ceiling is the mask itself. usual: (N, S, S),
    where tumours of the called class usually lie, one more trivial map.
    A network that called no tumour has n = 0 and no scores.
    """
    if len(masks) == 0:
        return {"n": 0, "groups": 0, "methods": {}, "baselines": {}}
    weights = resample_weights(groups, resamples, seed)
    rivals = {**trivial_maps(pixels / 255.0, seed), USUAL_PLACE: usual}
    trivial = {name: localisation(values, masks) for name, values in rivals.items()}
    by_chance = chance(masks)
    return {
        "n": len(masks),
        "groups": len(np.unique(groups)),
        "methods": {
            method: _score_method(values, masks, grids.get(method), by_chance, trivial, weights)
            for method, values in maps.items()
        },
        "baselines": {
            name: {score: estimate_mean(values, weights) for score, values in scores.items()}
            for name, scores in trivial.items()
        },
    }


def _score_method(
    maps: np.ndarray,
    masks: np.ndarray,
    grid: Grid | None,
    by_chance: dict[str, np.ndarray],
    trivial: dict[str, dict[str, np.ndarray]],
    weights: np.ndarray,
) -> dict[str, Any]:
    scores = localisation(maps, masks)
    ceiling = localisation(masks.astype(np.float32) if grid is None else grid_oracle(masks, *grid), masks)
    rows: dict[str, Any] = {
        name: _row(scores[name], by_chance[name], of_score(name, trivial), ceiling[name], weights)
        for name in LOCALISATION
    }
    return rows | {"empty": float(empty(maps).mean())}


def of_score(score: str, scores: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return one score of several sets of maps: {set: (N,)} of {set: {score: (N,)}}."""
    return {name: values[score] for name, values in scores.items()}


def _row(
    values: np.ndarray, by_chance: np.ndarray, trivial: dict[str, np.ndarray], ceiling: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """Return what is reported of one score of one method on N images. All arrays but weights: (N,).

    Chance and trivial maps do better on large tumours too, so their levels are not constants: the leads over them are
    paired, image by image.
    """
    best = max(trivial, key=lambda name: float(trivial[name].mean()))
    return {
        **estimate_mean(values, weights),
        "chance": float(by_chance.mean()),
        "ceiling": float(ceiling.mean()),
        "skill": _skill(values, trivial[best], ceiling, weights),
        "over_chance": estimate_difference(values, by_chance, weights),
        "over_trivial": {"best": best, **estimate_difference(values, trivial[best], weights)},
    }


def _skill(
    values: np.ndarray, baseline: np.ndarray, ceiling: np.ndarray, weights: np.ndarray
) -> dict[str, float] | None:
    """Return {value, low, high} of `skill` of the means; None where the baseline reaches the ceiling."""
    rows = np.concatenate([np.ones((1, len(values))), weights])
    means = [rows @ scores / rows.sum(1) for scores in (values, baseline, ceiling)]
    skills = np.array([skill(*row) for row in zip(*means, strict=True)])
    return estimate(float(skills[0]), skills[1:]) if np.isfinite(skills[0]) else None
