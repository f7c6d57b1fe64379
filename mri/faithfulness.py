"""Whether the maps of a network hang on what it computes: scored by changing images, and by changing the network.

Costs some hundred predictions per image and method, so it is done on few images; the intervals say how few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from mri import models
from mri.attribution_baselines import gaussian, intensity, random, sobel
from mri.attribution_perturbation import deletion_insertion, max_sensitivity, road
from mri.attribution_scores import empty, entropy, gini, head, outside_head, randomisation
from mri.explanations import map_of
from mri.inference import to_tensor
from mri.intervals import Estimate, estimate, resample_weights
from mri.models import Classifier

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # shares of pixels that ROAD removes
STEPS = 10  # of deletion and insertion
DRAWS = 4  # of noise, for the sensitivity
RANDOM_NETWORKS = 3  # that the randomisation test compares with
TRIVIAL = {"random": random, "gaussian": gaussian, "sobel": sobel, "intensity": intensity}  # maps that know no network


def summarise(
    model: Classifier, pixels: np.ndarray, groups: np.ndarray, methods: list[str], resamples: int, seed: int
) -> dict[str, Any]:
    """{"n", "settings", "methods": {method: {score: {value, low, high}}}, "baselines": {name: the same}} for the
    predicted classes of uint8 (N, S, S), N >= 2.

    road (above 0 is better), deletion (lower), insertion (higher), with "chance", what a random map gets on the same
    images; max_sensitivity (lower); gini, entropy; randomisation: how alike maps are to those of networks with random
    weights, which share of those is empty, and whether the method passes (`mri.attribution_scores.Randomisation`).
    baselines: road, deletion and insertion of maps that know no network. settings: LEVELS, STEPS, DRAWS.
    """
    images = to_tensor(pixels).numpy()
    predict = predictor(model)
    target = predict(images).argmax(1)
    weights = resample_weights(groups, resamples, seed)
    trivial = {
        name: _perturbed(predict, images, make(pixels / 255.0, seed), target, seed) for name, make in TRIVIAL.items()
    }
    chance = trivial["random"]
    blanks = [random_network(model, images, seed + draw) for draw in range(RANDOM_NETWORKS)]
    result: dict[str, Any] = {}
    for method in methods:
        maps = map_of(model, images, target, method)
        scores = _perturbed(predict, images, maps, target, seed)
        scored: dict[str, Any] = {
            name: {**_estimated(values, weights), "chance": float(chance[name].mean())}
            for name, values in scores.items()
        }
        sensitivity = max_sensitivity(_explainer(model, method), predict, images, target, draws=DRAWS, seed=seed)
        for name, values in (("max_sensitivity", sensitivity), ("gini", gini(maps)), ("entropy", entropy(maps))):
            scored[name] = _estimated(values, weights)
        scored["randomisation"] = _randomised(maps, [map_of(one, images, target, method) for one in blanks], seed)
        result[method] = scored
    return {
        "n": len(pixels),
        "settings": {"road_levels": list(LEVELS), "deletion_steps": STEPS, "sensitivity_draws": DRAWS},
        "methods": result,
        "baselines": {
            name: {score: _estimated(values, weights) for score, values in scores.items()}
            for name, scores in trivial.items()
        },
    }


def random_network(model: Classifier, images: np.ndarray, seed: int) -> Classifier:
    """A network of the same kind with random weights, in eval mode, whose batch norm knows the images (N, 1, H, W).

    With the statistics that a new network starts from, activations grow or vanish from layer to layer, and its maps
    are empty for a reason that has nothing to do with what a trained network has learned.
    """
    blank = models.build(model.spec, model.classes, seed).eval()
    for module in blank.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what is seen
            module.reset_running_stats()
            module.train()
    with torch.inference_mode():
        blank(torch.from_numpy(images))
    return blank.eval()


def _randomised(maps: np.ndarray, randomised: list[np.ndarray], seed: int) -> dict[str, Any]:
    check = randomisation(maps, np.stack(randomised), seed)
    return {
        "spearman": _mean(check.spearman),
        "ssim": _mean(check.ssim),
        "spearman_reference": _number(check.spearman_reference),
        "ssim_reference": _number(check.ssim_reference),
        "empty": float(np.mean([empty(made).mean() for made in randomised])),
        "passed": bool(check.passed),
    }


def mass_outside_head(
    model: Classifier, pixels: np.ndarray, groups: np.ndarray, methods: list[str], resamples: int, seed: int
) -> dict[str, Any]:
    """Share of each method's maps that lies on the background of tumour-free images, where no mask says more.

    {"n", "chance", "methods": {method: {value, low, high}}}; chance is the background's share of the picture.
    """
    images = to_tensor(pixels).numpy()
    target = predictor(model)(images).argmax(1)
    heads = head(pixels)
    weights = resample_weights(groups, resamples, seed)
    made = {method: outside_head(map_of(model, images, target, method), heads) for method in methods}
    return {
        "n": len(pixels),
        "chance": float(1 - heads.mean()),
        "methods": {method: _estimated(values, weights) for method, values in made.items()},
    }


def predictor(*networks: Classifier) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (B, 1, H, W) to the networks' mean probabilities (B, C)."""

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            return torch.stack([network(batch).softmax(1) for network in networks]).mean(0).numpy()

    return predict


def removed(
    predict: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, maps: np.ndarray, target: np.ndarray, seed: int
) -> np.ndarray:
    """float64 (N,): ROAD of maps (N, S, S) on uint8 (N, S, S); 0 is chance, higher is better."""
    return road(predict, to_tensor(pixels).numpy(), maps, target, LEVELS, seed).combined


def _explainer(model: Classifier, method: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda images, target: map_of(model, images, target, method)


def _perturbed(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, maps: np.ndarray, target: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    curves = deletion_insertion(predict, images, maps, target, STEPS, seed)
    without = road(predict, images, maps, target, LEVELS, seed)
    return {"road": without.combined, "deletion": curves.deletion_area, "insertion": curves.insertion_area}


def _estimated(values: np.ndarray, weights: np.ndarray) -> Estimate | dict[str, None]:
    """Mean over images where the score is defined, and its interval; None where it is for no image."""
    defined = np.isfinite(values)
    if not defined.any():
        return {"value": None, "low": None, "high": None}
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = weights[:, defined] @ values[defined] / weights[:, defined].sum(1)
    return estimate(float(values[defined].mean()), samples)


def _mean(values: np.ndarray) -> float | None:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
