"""Check whether maps depend on what the network computes: change the image, or change the network.

Costs some hundred predictions per image and method, so it is done on few images; the intervals show how few.
Predictions of changed images run in bf16 where that is fast: probabilities are then off by less than a hundredth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from mri.base import hardware
from mri.base.intervals import estimate_difference, estimate_mean, resample_weights
from mri.data.dataset import Dataset
from mri.explanation.maps import explain_many
from mri.explanation.perturbation import deletion_insertion, max_sensitivity, road
from mri.explanation.sampling import calls_a_tumour, choose_masked, choose_tumour_free
from mri.explanation.scores import empty, entropy, gini, head, outside_head, randomisation
from mri.explanation.trivial_maps import TRIVIAL_MAPS
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import folded, predict_logits, to_tensor

ROAD_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # shares of pixels removed
DELETION_STEPS = 10  # of insertion too
SENSITIVITY_DRAWS = 4  # of noise
RANDOM_NETWORKS = 3  # that the randomisation test compares with
BASELINES = ("random", "gaussian", "sobel", "intensity")  # the trivial maps that rank pixels at all
LOWER_IS_BETTER = {"deletion"}


def score_faithfulness(
    model: Classifier, data: Dataset, methods: list[str], count: int, resamples: int, seed: int
) -> dict[str, Any]:
    """Return `summarise` of tumours as "faithfulness" and `mass_outside_head` as "tumour_free", on `count` images each.

    Tumours are those that the network calls tumours, right or wrong. Either key is left out where images are too few.
    """
    scores: dict[str, Any] = {}
    tumours = choose_masked(data, count)
    if len(tumours):
        predicted = predict_logits(model, data.pixels[tumours["row"]]).argmax(1)
        tumours = tumours[calls_a_tumour(data.classes, predicted)]
    if len(tumours) > 1:
        pixels, groups = data.pixels[tumours["row"]], tumours["group"].to_numpy()
        scores["faithfulness"] = summarise(model, pixels, groups, methods, resamples, seed)
    free = choose_tumour_free(data, count, seed)
    if len(free):
        pixels, groups = data.pixels[free["row"]], free["group"].to_numpy()
        scores["tumour_free"] = mass_outside_head(model, pixels, groups, methods, resamples, seed)
    return scores


def summarise(
    model: Classifier, pixels: np.ndarray, groups: np.ndarray, methods: list[str], resamples: int, seed: int
) -> dict[str, Any]:
    """Score maps of the predicted classes of uint8 (N, S, S), N >= 2: {"n", "settings", "methods", "baselines"}.

    methods, {method: {score: {value, low, high}}}:
        road (above 0 is better), deletion (lower), insertion (higher), each with "chance", what a random map gets on
            the same images, and how much better it is, image by image, than that ("over_chance") and than the best
            trivial map ("over_trivial");
        max_sensitivity (lower); gini, entropy;
        randomisation: how similar maps are to those of networks with random weights, the share of those that is empty,
            and whether the method passes (`mri.explanation.scores.Randomisation`).
    baselines: road, deletion and insertion of trivial maps. settings: of these scores, and the precision of the
    predictions.
    """
    images = to_tensor(pixels).numpy()
    predict = predictor(model)
    target = predict_logits(model, pixels).argmax(1)
    weights = resample_weights(groups, resamples, seed)

    def perturbed(maps: np.ndarray) -> dict[str, np.ndarray]:
        return _perturbed(predict, images, maps, target, seed)

    def maps_of(network: Classifier, images: np.ndarray) -> np.ndarray:
        return np.stack(list(explain_many(network, images, target, methods).values()))

    trivial = {name: perturbed(TRIVIAL_MAPS[name](pixels / 255.0, seed)) for name in BASELINES}
    maps = maps_of(model, images)
    randomised = np.stack(
        [maps_of(random_network(model, images, seed + draw), images) for draw in range(RANDOM_NETWORKS)]
    )
    sensitivity = max_sensitivity(
        lambda noisy, _: maps_of(model, noisy), predict, images, target, draws=SENSITIVITY_DRAWS, seed=seed
    )
    result: dict[str, Any] = {}
    for i, method in enumerate(methods):
        scores = perturbed(maps[i])
        result[method] = {
            **{name: _compare_with_trivial(name, values, trivial, weights) for name, values in scores.items()},
            "max_sensitivity": estimate_mean(sensitivity[i], weights),
            "gini": estimate_mean(gini(maps[i]), weights),
            "entropy": estimate_mean(entropy(maps[i]), weights),
            "randomisation": _randomisation(maps[i], randomised[:, i], seed),
        }
    return {
        "n": len(pixels),
        "settings": {
            "road_levels": list(ROAD_LEVELS),
            "deletion_steps": DELETION_STEPS,
            "sensitivity_draws": SENSITIVITY_DRAWS,
            "precision": str(precision(model)).removeprefix("torch."),
        },
        "methods": result,
        "baselines": {
            name: {score: estimate_mean(values, weights) for score, values in scores.items()}
            for name, scores in trivial.items()
        },
    }


def _compare_with_trivial(
    score: str, values: np.ndarray, trivial: dict[str, dict[str, np.ndarray]], weights: np.ndarray
) -> dict[str, Any]:
    """Return one score of one method, (N,), with its leads over the trivial maps."""
    sign = -1 if score in LOWER_IS_BETTER else 1
    rivals = {name: sign * scores[score] for name, scores in trivial.items()}
    best = max(rivals, key=lambda name: float(rivals[name].mean()))
    return {
        **estimate_mean(values, weights),
        "chance": float(trivial["random"][score].mean()),
        "over_chance": estimate_difference(sign * values, rivals["random"], weights),
        "over_trivial": {"best": best, **estimate_difference(sign * values, rivals[best], weights)},
    }


def random_network(model: Classifier, images: np.ndarray, seed: int) -> Classifier:
    """Return the same architecture with random weights, in eval mode, batch norm fitted to the images (N, 1, H, W).

    With the batch-norm statistics of a new network, activations grow or vanish from layer to layer, and maps are empty
    for a reason that has nothing to do with what a trained network has learned. And where a recipe lets residual
    branches start at zero (zero_init_residual), all random networks would be almost identical.
    """
    network = models.build(model.spec, model.classes, seed).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            module.momentum = None  # the plain mean over batches
            module.reset_running_stats()
            module.train()
    with torch.inference_mode():
        network(torch.from_numpy(images))
    return network.eval()


def _randomisation(maps: np.ndarray, randomised: np.ndarray, seed: int) -> dict[str, Any]:
    check = randomisation(maps, randomised, seed)
    return {
        "spearman": _mean(check.spearman),
        "ssim": _mean(check.ssim),
        "spearman_reference": _mean(np.array(check.spearman_reference)),
        "ssim_reference": _mean(np.array(check.ssim_reference)),
        "empty": float(np.mean([empty(values).mean() for values in randomised])),
        "passed": bool(check.passed),
    }


def mass_outside_head(
    model: Classifier, pixels: np.ndarray, groups: np.ndarray, methods: list[str], resamples: int, seed: int
) -> dict[str, Any]:
    """Return the share of each method's mass that lies on the background, for tumour-free images without a mask.

    {"n", "chance", "methods": {method: {value, low, high, empty}}}; chance is the background's share of the picture,
    empty the share of maps that are zero everywhere and have no mass.
    """
    images = to_tensor(pixels).numpy()
    target = predict_logits(model, pixels).argmax(1)
    heads = head(pixels)
    weights = resample_weights(groups, resamples, seed)
    maps = explain_many(model, images, target, methods)
    return {
        "n": len(pixels),
        "chance": float(1 - heads.mean()),
        "methods": {
            method: {**estimate_mean(outside_head(values, heads), weights), "empty": float(empty(values).mean())}
            for method, values in maps.items()
        },
    }


def precision(network: Classifier) -> torch.dtype:
    """Return what `predictor` runs a network in.

    bf16 for full convolutions on a processor with bf16 instructions, where it is two to three times as fast; otherwise
    fp32, since depthwise convolutions gain little.
    """
    full = all(module.groups == 1 for module in network.modules() if isinstance(module, nn.Conv2d))
    return torch.bfloat16 if full and "bf16" in hardware.describe()["extensions"] else torch.float32


def predictor(*networks: Classifier) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images (B, 1, H, W) to the networks' mean probabilities (B, C), each in its `precision`.

    Networks are in eval mode, and copied: batch norm is folded into the convolutions.
    """
    dtypes = [precision(network) for network in networks]
    copies = [folded(network) for network in networks]

    def probabilities(network: Classifier, dtype: torch.dtype, batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = network(batch)
        return logits.float().softmax(1)

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            scores = [probabilities(network, dtype, batch) for network, dtype in zip(copies, dtypes, strict=True)]
            return torch.stack(scores).mean(0).numpy()

    return predict


def road_scores(
    predict: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, maps: np.ndarray, target: np.ndarray, seed: int
) -> np.ndarray:
    """Return float64 (N,): ROAD of maps (N, S, S) on uint8 (N, S, S); 0 is chance, higher is better."""
    return road(predict, to_tensor(pixels).numpy(), maps, target, ROAD_LEVELS, seed).combined


def _perturbed(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, maps: np.ndarray, target: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    curves = deletion_insertion(predict, images, maps, target, DELETION_STEPS, seed)
    imputed = road(predict, images, maps, target, ROAD_LEVELS, seed)
    return {"road": imputed.combined, "deletion": curves.deletion_area, "insertion": curves.insertion_area}


def _mean(values: np.ndarray) -> float | None:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else None
