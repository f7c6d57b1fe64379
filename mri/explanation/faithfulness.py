"""Whether the maps of a network hang on what it computes: scored by changing images, and by changing the network.

Costs some hundred predictions per image and method, so it is done on few images; the intervals say how few.
Predictions of changed images run in bf16 where that is quick: probabilities are then off by less than a hundredth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from mri.base import hardware
from mri.base.intervals import Estimate, estimate, resample_weights
from mri.explanation.localisation import difference, maps_of
from mri.explanation.perturbation import deletion_insertion, max_sensitivity, road
from mri.explanation.scores import SCORES, empty, entropy, gini, head, outside_head, randomisation
from mri.explanation.trivial_maps import gaussian, intensity, random, sobel
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import folded, predict_logits, to_tensor

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

    road (above 0 is better), deletion (lower), insertion (higher), each with "chance", what a random map gets on the
    same images, and how much better it is, image by image, than that ("over_chance") and than the best map that knows
    no network ("over_trivial");
    max_sensitivity (lower); gini, entropy; randomisation: how alike maps are to those of networks with random weights,
    which share of those is empty, and whether the method passes (`mri.explanation.scores.Randomisation`).
    baselines: road, deletion and insertion of maps that know no network. settings: LEVELS, STEPS, DRAWS, and the
    precision of the predictions.
    """
    images = to_tensor(pixels).numpy()
    predict = predictor(model)
    target = predict_logits(model, pixels).argmax(1)
    weights = resample_weights(groups, resamples, seed)

    def perturbed(made: np.ndarray) -> dict[str, np.ndarray]:
        return _perturbed(predict, images, made, target, seed)

    def drawn(network: Classifier, seen: np.ndarray) -> np.ndarray:
        return np.stack(list(maps_of(network, seen, target, methods).values()))

    trivial = {name: perturbed(make(pixels / 255.0, seed)) for name, make in TRIVIAL.items()}
    maps = drawn(model, images)
    blanks = np.stack([drawn(random_network(model, images, seed + draw), images) for draw in range(RANDOM_NETWORKS)])
    sensitivity = max_sensitivity(lambda seen, _: drawn(model, seen), predict, images, target, draws=DRAWS, seed=seed)
    result: dict[str, Any] = {}
    for i, method in enumerate(methods):
        scores = perturbed(maps[i])
        result[method] = {
            **{name: _against(name, values, trivial, weights) for name, values in scores.items()},
            "max_sensitivity": _estimated(sensitivity[i], weights),
            "gini": _estimated(gini(maps[i]), weights),
            "entropy": _estimated(entropy(maps[i]), weights),
            "randomisation": _randomised(maps[i], blanks[:, i], seed),
        }
    return {
        "n": len(pixels),
        "settings": {
            "road_levels": list(LEVELS),
            "deletion_steps": STEPS,
            "sensitivity_draws": DRAWS,
            "precision": str(precision(model)).removeprefix("torch."),
        },
        "methods": result,
        "baselines": {
            name: {score: _estimated(values, weights) for score, values in scores.items()}
            for name, scores in trivial.items()
        },
    }


def _against(
    score: str, own: np.ndarray, trivial: dict[str, dict[str, np.ndarray]], weights: np.ndarray
) -> dict[str, Any]:
    """One score of one method, (N,), beside those of the maps that know no network."""
    sign = -1 if SCORES[score].better == "lower" else 1
    rivals = {name: sign * scores[score] for name, scores in trivial.items()}
    best = max(rivals, key=lambda name: float(rivals[name].mean()))
    return {
        **_estimated(own, weights),
        "chance": float(trivial["random"][score].mean()),
        "over_chance": difference(sign * own, rivals["random"], weights),
        "over_trivial": {"best": best, **difference(sign * own, rivals[best], weights)},
    }


def random_network(model: Classifier, images: np.ndarray, seed: int) -> Classifier:
    """A network of the same kind with random weights, in eval mode, whose batch norm knows the images (N, 1, H, W).

    With the statistics that a new network starts from, activations grow or vanish from layer to layer, and its maps
    are empty for a reason that has nothing to do with what a trained network has learned. And where a recipe lets
    branches start at nothing (zero_init_residual), all random networks would be nearly one and the same.
    """
    blank = models.build(model.spec, model.classes, seed).eval()
    for module in blank.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            module.momentum = None  # the plain mean of what is seen
            module.reset_running_stats()
            module.train()
    with torch.inference_mode():
        blank(torch.from_numpy(images))
    return blank.eval()


def _randomised(maps: np.ndarray, randomised: np.ndarray, seed: int) -> dict[str, Any]:
    check = randomisation(maps, randomised, seed)
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

    {"n", "chance", "methods": {method: {value, low, high, empty}}}; chance is the background's share of the picture,
    empty the share of maps that are zero everywhere, which have no mass to share out.
    """
    images = to_tensor(pixels).numpy()
    target = predict_logits(model, pixels).argmax(1)
    heads = head(pixels)
    weights = resample_weights(groups, resamples, seed)
    maps = maps_of(model, images, target, methods)
    return {
        "n": len(pixels),
        "chance": float(1 - heads.mean()),
        "methods": {
            method: {**_estimated(outside_head(made, heads), weights), "empty": float(empty(made).mean())}
            for method, made in maps.items()
        },
    }


def precision(network: Classifier) -> torch.dtype:
    """What `predictor` runs a network in: bf16 for one of full convolutions on a processor that multiplies bf16 itself,
    where it is two to three times as fast; else fp32, for depthwise convolutions gain little."""
    full = all(module.groups == 1 for module in network.modules() if isinstance(module, nn.Conv2d))
    return torch.bfloat16 if full and "bf16" in hardware.describe()["extensions"] else torch.float32


def predictor(*networks: Classifier) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (B, 1, H, W) to the networks' mean probabilities (B, C), each in its `precision`.

    Networks in eval mode; what is asked are copies of them as they are now, with batch norm part of the convolutions.
    """
    dtypes = [precision(network) for network in networks]
    copies = [folded(one) for one in networks]

    def probabilities(network: Classifier, dtype: torch.dtype, batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = network(batch)
        return logits.float().softmax(1)

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            each = [probabilities(network, dtype, batch) for network, dtype in zip(copies, dtypes, strict=True)]
            return torch.stack(each).mean(0).numpy()

    return predict


def removed(
    predict: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, maps: np.ndarray, target: np.ndarray, seed: int
) -> np.ndarray:
    """float64 (N,): ROAD of maps (N, S, S) on uint8 (N, S, S); 0 is chance, higher is better."""
    return road(predict, to_tensor(pixels).numpy(), maps, target, LEVELS, seed).combined


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
