"""Score maps of one network against tumour masks, beside chance, trivial maps and the ceiling of the method's grid.

Maps explain the predicted class. An image counts when it has a mask and the network calls a tumour, right or wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.base.intervals import estimate, estimate_difference, estimate_mean, resample_weights
from mri.data.dataset import Dataset
from mri.explanation.maps import Grid, grids_of
from mri.explanation.sampling import calls_a_tumour
from mri.explanation.scores import LOCALISATION, chance, empty, localisation, skill
from mri.explanation.trivial_maps import grid_oracle, trivial_maps
from mri.networks.models import Classifier


def score_localisation(
    model: Classifier,
    data: Dataset,
    images: pd.DataFrame,
    logits: np.ndarray,
    maps: dict[str, np.ndarray],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return `summarise` of the images that count, and in `grids` how many cells each coarse method has.

    images: rows of the index, with masks. logits: (N, C). maps: {method: (N, S, S)} of the predicted classes.
    """
    pixels, masks = data.pixels[images["row"].to_numpy()], data.masks_of(images)
    counted = calls_a_tumour(data.classes, logits.argmax(1)) & masks.any(axis=(1, 2))
    grids = grids_of(model, pixels)
    scores = summarise(
        {method: values[counted] for method, values in maps.items()},
        pixels[counted],
        masks[counted],
        images["group"].to_numpy()[counted],
        grids,
        resamples,
        seed,
    )
    return scores | {"grids": {method: "x".join(map(str, grid.shape)) for method, grid in grids.items()}}


def summarise(
    maps: dict[str, np.ndarray],
    pixels: np.ndarray,
    masks: np.ndarray,
    groups: np.ndarray,
    grids: dict[str, Grid],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return every method's scores: value, interval, chance level, lead over chance and over the best trivial map, and
    skill between that map (0) and the ceiling (1).

    maps: {method: (N, S, S)}. pixels: uint8 (N, S, S). masks: bool (N, S, S), none empty. groups: (N,), resampled
    together. grids: of the methods that have a coarse one; the others' ceiling is the mask itself.
    A network that called no tumour has n = 0 and no scores.
    """
    if len(masks) == 0:
        return {"n": 0, "groups": 0, "methods": {}, "baselines": {}}
    weights = resample_weights(groups, resamples, seed)
    trivial = {name: localisation(values, masks) for name, values in trivial_maps(pixels / 255.0, seed).items()}
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
