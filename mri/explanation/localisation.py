"""Explanations scored: maps of one network on test images with a tumour mask, against chance, baselines and ceiling.

Maps explain the predicted class. An image counts when it has a mask and the network calls a tumour, right or wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from mri.base.errors import UserError
from mri.base.intervals import estimate, resample_weights
from mri.data.dataset import Dataset
from mri.evaluation.scores import TUMOUR_FREE
from mri.explanation.maps import METHODS, explain, explain_many, gradcam_grid
from mri.explanation.scores import chance, empty, localisation, skill
from mri.explanation.trivial_maps import baselines, grid_oracle
from mri.inference.gradcam import Cells
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor

FINE = "gradcam_fine"  # Grad-CAM of the stage before the last: four times the cells, less of the class
LEGAL = [*METHODS, FINE]
CORE = ("pointing_game", "rma", "rra", "auroc", "iou_otsu")


def sample(data: Dataset, limit: int) -> pd.DataFrame:
    """At most `limit` test images with a mask: the same for every network, classes and patients mixed evenly."""
    tests = data.index[(data.index["split"] == "test") & (data.index["mask_row"] >= 0)]
    if tests.empty:
        return tests
    # Taking one image of every patient and class in turn keeps long series from crowding out the others.
    turn = tests.groupby(["label", "group"]).cumcount()
    turn_in_class = tests.assign(turn=turn).sort_values(["turn", "id"]).groupby("label").cumcount()
    order = turn_in_class.sort_values(kind="stable").index
    return tests.loc[order[:limit]].sort_values("id").reset_index(drop=True)


def maps_of(
    model: Classifier, images: np.ndarray | torch.Tensor, target: np.ndarray | None, methods: list[str]
) -> dict[str, np.ndarray]:
    """{method: float32 (N, H, W)} raw maps by some of LEGAL, of images (N, 1, H, W) in [0, 1].

    target: as in `explain_many`, None for the predicted classes. Raises UserError for another method.
    """
    unknown = [name for name in methods if name not in LEGAL]
    if unknown:
        raise UserError(f"unknown method {unknown[0]!r} in explain.methods: choose from {', '.join(LEGAL)}")
    maps = explain_many(model, images, target, [name for name in methods if name != FINE])
    if FINE in methods:
        maps[FINE] = explain(model, images, target, "gradcam", model.spec.fine_layer)
    return {name: maps[name] for name in methods}


class Grid(NamedTuple):
    """Rows and columns of a coarse map, and where its cells are centred: None for a share of the image each."""

    shape: tuple[int, int]
    cells: Cells | None = None


def grids_of(model: Classifier, pixels: np.ndarray) -> dict[str, Grid]:
    """The grids on which methods draw at the size of `pixels` (N, S, S); a method that isn't here draws pixels."""
    coarse, fine = _grid_shape(model, pixels), _grid_shape(model, pixels, model.spec.fine_layer)
    return {"gradcam": Grid(coarse), "gradcam_aligned": Grid(coarse, Cells(*model.cells())), FINE: Grid(fine)}


def _grid_shape(model: Classifier, pixels: np.ndarray, layer: str = "") -> tuple[int, int]:
    height, width = gradcam_grid(model, to_tensor(pixels[:1]), torch.zeros(1, dtype=torch.long), layer).shape[1:]
    return height, width


def summarise(
    maps: dict[str, np.ndarray],
    pixels: np.ndarray,
    masks: np.ndarray,
    groups: np.ndarray,
    grids: dict[str, Grid],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Scores of every method: value, interval, chance level, lead over chance and over the best trivial map, and skill
    between that map (0) and the ceiling (1).

    maps: {method: (N, S, S)}. pixels: uint8 (N, S, S). masks: bool (N, S, S), none empty. groups: (N,), resampled
    together. grids: of the methods that draw on a coarse one; the others' ceiling is the mask itself.
    A network that called no tumour has n = 0 and no scores.
    """
    if len(masks) == 0:
        return {"n": 0, "groups": 0, "methods": {}, "baselines": {}}
    weights = resample_weights(groups, resamples, seed)
    trivial = {name: localisation(made, masks) for name, made in baselines(pixels / 255.0, seed).items()}
    by_chance = chance(masks)
    result: dict[str, Any] = {"n": len(masks), "groups": len(np.unique(groups)), "methods": {}}
    result["baselines"] = {name: {score: mean(own[score], weights) for score in CORE} for name, own in trivial.items()}
    for name, made in maps.items():
        own, ceiling = localisation(made, masks), _ceiling(masks, grids.get(name))
        rows = {
            score: _row(own[score], by_chance[score], of_score(score, trivial), ceiling[score], weights)
            for score in CORE
        }
        result["methods"][name] = {**rows, "empty": float(empty(made).mean())}
    return result


def of_score(score: str, scores: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """{whose: (N,)} of {whose: {score: (N,)}}."""
    return {name: own[score] for name, own in scores.items()}


def _row(
    own: np.ndarray, by_chance: np.ndarray, trivial: dict[str, np.ndarray], ceiling: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """One score of one method on N images, (N,) as its chance levels, its ceilings and the scores of trivial maps.

    Chance and trivial maps do better on large tumours too, so their levels are no constants: the leads over them are
    paired, image by image.
    """
    best = max(trivial, key=lambda name: float(trivial[name].mean()))
    return {
        **mean(own, weights),
        "chance": float(by_chance.mean()),
        "ceiling": float(ceiling.mean()),
        "skill": _skill(own, trivial[best], ceiling, weights),
        "over_chance": difference(own, by_chance, weights),
        "over_trivial": {"best": best, **difference(own, trivial[best], weights)},
    }


def mean(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Mean of (N,) over images: {value, low, high}. weights: (B, N) from `resample_weights`."""
    return estimate(float(values.mean()), weights @ values / weights.sum(1))


def _skill(own: np.ndarray, baseline: np.ndarray, ceiling: np.ndarray, weights: np.ndarray) -> dict[str, float] | None:
    """{value, low, high} of `skill` of the means; None where the baseline reaches the ceiling."""
    every = np.concatenate([np.ones((1, len(own))), weights])
    means = [every @ values / every.sum(1) for values in (own, baseline, ceiling)]
    reached = np.array([skill(*row) for row in zip(*means, strict=True)])
    return estimate(float(reached[0]), reached[1:]) if np.isfinite(reached[0]) else None


def _ceiling(masks: np.ndarray, grid: Grid | None) -> dict[str, np.ndarray]:
    return localisation(masks.astype(np.float32) if grid is None else grid_oracle(masks, *grid), masks)


def calls_a_tumour(labels: list[str], predicted: np.ndarray) -> np.ndarray:
    """bool (N,): whether the predicted class, an index into `labels`, is a tumour."""
    return np.array([labels[i] != TUMOUR_FREE for i in predicted])


def difference(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Mean difference of two scores (N,) of the same images: {value, low, high, distinguishable} from 0."""
    result: dict[str, Any] = dict(mean(first - second, weights))
    return result | {"distinguishable": not result["low"] <= 0 <= result["high"]}
