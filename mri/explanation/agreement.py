"""Score the consensus of several networks' maps.

Is it better than the best single network's map, and not merely because it is smoother? Does the networks' agreement
tell right classes from wrong ones? And which network's own maps put more of their mass into the tumour?
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mri.base.intervals import estimate, estimate_difference, estimate_mean, resample_weights
from mri.base.params import Params
from mri.data.dataset import Dataset, batches
from mri.evaluation.comparison import compare_values
from mri.evaluation.scores import area_under_roc
from mri.explanation.faithfulness import predictor, road_scores
from mri.explanation.localisation import of_score
from mri.explanation.maps import explain
from mri.explanation.sampling import calls_a_tumour, choose_evenly, choose_masked, read_probabilities
from mri.explanation.scores import LOCALISATION, entropy, iou, localisation, mass_accuracy
from mri.explanation.trivial_maps import blurred_to_entropy
from mri.inference.consensus import combine, confidence_weights, consensus_class
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor

# Averaging blurs, and blur alone can raise a score: so the second rival is the best of the single maps blurred alike.
LEADS = ("lead_over_best_single", "lead_over_best_single_blurred_alike")
AT_ONCE = 64  # images whose maps are held in memory together


def score_consensus(
    params: Params, data: Dataset, networks: dict[str, Classifier], predictions: Path, maps: Path
) -> dict[str, Any]:
    """Return the content of metrics/consensus.json; {"n": 0, "why": ...} where there is nothing to score.

    predictions: the folder of NAME.csv. maps: the folder of NAME.npz, each network's maps of `choose_masked`.
    """
    images = choose_masked(data, params.explain.images)
    if len(networks) < 2:
        return {"n": 0, "why": "a consensus needs two networks"}
    if images.empty:
        return {"n": 0, "why": "no test image has a mask"}
    return {
        **_leads_on_masked(params, data, images, networks, predictions),
        "agreement": _agreement(params, data, networks, predictions),
        "networks_by_rma": _compare_networks(params, data, images, list(networks), maps),
    }


@dataclass(frozen=True)
class MapSet:
    """N images with masks and the Grad-CAMs of the class that all networks together call them.

    groups: (N,). pixels: uint8 (N, H, W). masks: bool (N, H, W). target: int (N,). single: {network: (N, H, W)}.
    consensus: (N, H, W).
    """

    groups: np.ndarray
    pixels: np.ndarray
    masks: np.ndarray
    target: np.ndarray
    single: dict[str, np.ndarray]
    consensus: np.ndarray

    def __getitem__(self, where: np.ndarray) -> MapSet:
        single = {name: maps[where] for name, maps in self.single.items()}
        groups, pixels, masks, target = (array[where] for array in (self.groups, self.pixels, self.masks, self.target))
        return MapSet(groups, pixels, masks, target, single, self.consensus[where])

    def blurred(self) -> dict[str, np.ndarray]:
        """Return the single maps, blurred to be as spread out as the consensus."""
        return {name: blurred_to_entropy(maps, entropy(self.consensus)) for name, maps in self.single.items()}


@dataclass(frozen=True)
class Rivals:
    """One score of the consensus, of each single network, and of each one's map blurred to be as spread out.

    Arrays (N,), higher is better. weights: (B, N) of the bootstrap.
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
    params: Params, data: Dataset, images: pd.DataFrame, networks: dict[str, Classifier], predictions: Path
) -> dict[str, Any]:
    """Return n, `leads`, and the overlap of the consensus' region with the mask, on images called a tumour."""
    probabilities = read_probabilities(predictions, list(networks), images["id"], data.classes)
    target = consensus_class(probabilities)
    pixels, masks = data.pixels[images["row"].to_numpy()], data.masks_of(images)
    counted = np.flatnonzero(calls_a_tumour(data.classes, target) & masks.any(axis=(1, 2)))
    if not len(counted):
        return {"n": 0, "why": "no tumour is called"}
    tensor = to_tensor(pixels)
    single = {name: explain(network, tensor, target, "gradcam") for name, network in networks.items()}
    combined = combine(np.stack(list(single.values())), confidence_weights(probabilities, target))
    maps = MapSet(images["group"].to_numpy(), pixels, masks, target, single, combined.map)
    labels = images["label"].iloc[counted].tolist()
    few = counted[choose_evenly(labels, params.explain.changed, params.seed)]
    weights = resample_weights(maps.groups[counted], params.evaluate.resamples, params.seed)
    rivals = [*_localised(maps[counted], weights), _road(params, list(networks.values()), maps[few])]
    return {
        "n": len(counted),
        "n_road": len(few),
        **leads(rivals),
        "region_iou": estimate_mean(iou(combined.region[counted], masks[counted]), weights),
    }


def _localised(maps: MapSet, weights: np.ndarray) -> list[Rivals]:
    consensus = localisation(maps.consensus, maps.masks)
    single, blurred = (
        {name: localisation(values, maps.masks) for name, values in rivals.items()}
        for rivals in (maps.single, maps.blurred())
    )
    return [
        Rivals(score, consensus[score], of_score(score, single), of_score(score, blurred), weights)
        for score in LOCALISATION
    ]


def _road(params: Params, networks: list[Classifier], maps: MapSet) -> Rivals:
    """Return the rivals by ROAD, with the mean probability of all networks."""
    weights = resample_weights(maps.groups, params.evaluate.resamples, params.seed)
    predict = predictor(*networks)

    def score(values: np.ndarray) -> np.ndarray:
        return road_scores(predict, maps.pixels, values, maps.target, params.seed)

    single, blurred = (
        {name: score(values) for name, values in rivals.items()} for rivals in (maps.single, maps.blurred())
    )
    return Rivals("road", score(maps.consensus), single, blurred, weights)


def _agreement(params: Params, data: Dataset, networks: dict[str, Classifier], predictions: Path) -> dict[str, Any]:
    """Return how well agreement tells right classes from wrong ones on all test images, with or without a tumour.

    AUROCs, 0.5 is chance, left out when all are right; beside them the networks' mean confidence, which needs no map.
    """
    tests = data.index[data.index["split"] == "test"]
    probabilities = read_probabilities(predictions, list(networks), tests["id"], data.classes)
    target = consensus_class(probabilities)
    pixels = data.pixels[tests["row"].to_numpy()]
    overlap, correlation, disputed = _agreements(list(networks.values()), pixels, probabilities, target)
    right = target == tests["label"].map(data.classes.index).to_numpy()
    result: dict[str, Any] = {
        "n": len(tests),
        "top_overlap": float(np.nanmean(overlap)),
        "rank_correlation": float(np.nanmean(correlation)),
        "disputed_area": float(disputed.mean()),
        "wrong": int((~right).sum()),
    }
    if right.all() or not right.any():
        return result
    weights = resample_weights(tests["group"], params.evaluate.resamples, params.seed)
    weights = np.concatenate([np.ones((1, len(right))), weights])
    signs = {
        "auroc": overlap,
        "rank_correlation_auroc": correlation,
        "confidence_auroc": probabilities.mean(0).max(1),
    }
    with np.errstate(invalid="ignore"):
        samples = {name: area_under_roc(np.nan_to_num(sign), right, weights) for name, sign in signs.items()}
    samples["confidence_over_agreement"] = samples["confidence_auroc"] - samples["auroc"]
    return result | {
        f"{name}_of_being_right": estimate(float(aurocs[0]), aurocs[1:]) for name, aurocs in samples.items()
    }


def _agreements(
    networks: list[Classifier], pixels: np.ndarray, probabilities: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the Grad-CAMs' agreement, correlation and disputed area on each of N images, (N,) each."""
    weights = confidence_weights(probabilities, target)
    parts = []
    for part in batches(len(pixels), AT_ONCE):
        images = to_tensor(pixels[part])
        maps = np.stack([explain(network, images, target[part], "gradcam") for network in networks])
        combined = combine(maps, weights[:, part])
        parts.append((combined.agreement, combined.correlation, combined.disputed_area))
    overlap, correlation, disputed = map(np.concatenate, zip(*parts, strict=True))
    return overlap, correlation, disputed


def _compare_networks(
    params: Params, data: Dataset, images: pd.DataFrame, names: list[str], maps: Path
) -> dict[str, list[dict[str, Any]]]:
    """Compare the networks' own maps by their mass in the tumour, pair by pair: {method: pairs}.

    On the images that both networks call a tumour.
    """
    masks, stored = data.masks_of(images), {name: np.load(maps / f"{name}.npz") for name in names}
    counted = {
        name: calls_a_tumour(data.classes, arrays["logits"].argmax(1)) & masks.any(axis=(1, 2))
        for name, arrays in stored.items()
    }
    return {
        method: compare_values(
            {name: np.where(counted[name], mass_accuracy(stored[name][method], masks), np.nan) for name in names},
            images["group"],
            params.evaluate.resamples,
            params.seed,
        )
        for method in params.explain.methods
    }
