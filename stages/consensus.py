"""Combine the maps of all networks, and measure whether the combination is better than the best of them; show both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mri.base import cli
from mri.base.files import write_json
from mri.base.intervals import estimate, resample_weights
from mri.base.params import Params
from mri.base.paths import DETAILS, MAPS, MODELS, PREDICTIONS, SHEETS, SHOWN, SPLITS
from mri.data import dataset
from mri.data.dataset import Dataset
from mri.evaluation.comparison import compare_values
from mri.evaluation.scores import area_under_roc
from mri.explanation.agreement import Rivals, leads
from mri.explanation.faithfulness import predictor, removed
from mri.explanation.localisation import CORE, calls_a_tumour, mean, of_score, sample
from mri.explanation.maps import explain
from mri.explanation.sampling import candidates, draw, for_sheet, read_probabilities
from mri.explanation.scores import entropy, iou, localisation, mass_accuracy
from mri.explanation.trivial_maps import blurred_to_entropy
from mri.inference.consensus import combine, confidence_weights, consensus_class
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor
from mri.report.gallery import METHODS, explained
from mri.report.sheets import named, save

AT_ONCE = 64  # images whose maps are held in memory together


@dataclass(frozen=True)
class Called:
    """Test images and the class that all networks together call them.

    rows: their rows of the split. pixels: uint8 (N, H, W). masks: bool (N, H, W). target: int (N,).
    """

    rows: pd.DataFrame
    pixels: np.ndarray
    masks: np.ndarray
    target: np.ndarray

    def __getitem__(self, where: np.ndarray) -> Called:
        return Called(self.rows.iloc[where], self.pixels[where], self.masks[where], self.target[where])


def consensus(params: Params) -> None:
    """Write metrics/details/consensus.json, plots/sheets/consensus/CLASS.jpg and artifacts/shown.npz.

    The rivals of the consensus are the best single network's map, and the best of the single maps blurred until they
    are as spread out: averaging blurs, and blur alone can raise a score.
    """
    data = dataset.read(SPLITS, params.data.classes)
    chosen = sample(data, params.explain.images)
    names = list(params.model.architectures)
    networks = {name: models.load(MODELS / name).model for name in names}
    if len(names) < 2 or chosen.empty:
        why = "a consensus needs two networks" if len(names) < 2 else "no test image has a mask"
        write_json({"n": 0, "why": why}, DETAILS / "consensus.json")
        _show(params, data, networks, names[0])
        return
    probabilities = read_probabilities(PREDICTIONS, names, chosen["id"], data.classes)
    target = consensus_class(probabilities)
    called = Called(chosen, data.pixels[chosen["row"].to_numpy()], data.masks_of(chosen), target)
    images = to_tensor(called.pixels)
    maps = {name: explain(network, images, target, "gradcam") for name, network in networks.items()}
    combined = combine(np.stack(list(maps.values())), confidence_weights(probabilities, target))
    metrics: dict = {"n": 0, "why": "no tumour is called"}
    counted = np.flatnonzero(calls_a_tumour(data.classes, target) & called.masks.any(axis=(1, 2)))
    if len(counted):
        few = counted[for_sheet(chosen["label"].iloc[counted].tolist(), params.explain.changed, params.seed)]
        scores = [
            *_localised(params, called[counted], _at(maps, counted), combined.map[counted]),
            _road(params, list(networks.values()), called[few], _at(maps, few), combined.map[few]),
        ]
        metrics = {"n": len(counted), "n_road": len(few), **leads(scores)}
        weights = resample_weights(chosen["group"].iloc[counted], params.evaluate.resamples, params.seed)
        metrics["region_iou"] = mean(iou(combined.region[counted], called.masks[counted]), weights)
    metrics["agreement"] = _agreement(params, data, networks)
    metrics["networks_by_rma"] = _networks_compared(params, data, chosen, names)
    write_json(metrics, DETAILS / "consensus.json")
    _show(params, data, networks, metrics.get("best_single", {}).get("rma", names[0]))


def _at(maps: dict[str, np.ndarray], where: np.ndarray) -> dict[str, np.ndarray]:
    return {name: made[where] for name, made in maps.items()}


def _show(params: Params, data: dataset.Dataset, networks: dict[str, Classifier], best: str) -> None:
    """A sheet per class, the tumour-free one too, of images called rightly and wrongly: maps of the network `best`
    beside all networks' consensus. And the maps of some of all classes, for the report's viewer."""
    tests = candidates(data, PREDICTIONS, list(networks))
    shown_by = f"maps of {best}" + (", and Grad-CAM of all networks together" if len(networks) > 1 else "")
    for label, of_class in tests.groupby("label"):
        few = draw(of_class, params.explain.sheet, params.seed)
        title = f"{label}: {shown_by}, on {named(params.data.name, params.data.source)}"
        sheet = explained(data, few, networks, PREDICTIONS, METHODS).sheet(best, title)
        save(sheet, SHEETS / f"consensus/{label}.jpg")
    few = draw(tests, 2 * params.explain.sheet, params.seed)
    explained(data, few, networks, PREDICTIONS, params.explain.methods).save(SHOWN)


def _localised(params: Params, called: Called, maps: dict[str, np.ndarray], combined: np.ndarray) -> list[Rivals]:
    weights = resample_weights(called.rows["group"], params.evaluate.resamples, params.seed)
    own = localisation(combined, called.masks)
    single, blurred = (
        {name: localisation(made, called.masks) for name, made in each.items()}
        for each in (maps, _blurred(maps, combined))
    )
    return [Rivals(score, own[score], of_score(score, single), of_score(score, blurred), weights) for score in CORE]


def _road(
    params: Params, networks: list[Classifier], called: Called, maps: dict[str, np.ndarray], combined: np.ndarray
) -> Rivals:
    """ROAD, asking all networks together."""
    weights = resample_weights(called.rows["group"], params.evaluate.resamples, params.seed)

    def score(made: np.ndarray) -> np.ndarray:
        return removed(predictor(*networks), called.pixels, made, called.target, params.seed)

    single, blurred = ({name: score(made) for name, made in of.items()} for of in (maps, _blurred(maps, combined)))
    return Rivals("road", score(combined), single, blurred, weights)


def _blurred(maps: dict[str, np.ndarray], combined: np.ndarray) -> dict[str, np.ndarray]:
    return {name: blurred_to_entropy(made, entropy(combined)) for name, made in maps.items()}


def _agreement(params: Params, data: Dataset, networks: dict[str, Classifier]) -> dict:
    """Whether agreement tells right classes from wrong ones on all test images, with a tumour or without.

    AUROCs, 0.5 is chance, left out when all are right; beside them the networks' mean confidence, which needs no map.
    """
    tests = data.index[data.index["split"] == "test"]
    probabilities = read_probabilities(PREDICTIONS, list(networks), tests["id"], data.classes)
    target = consensus_class(probabilities)
    found = _agreements(list(networks.values()), data.pixels[tests["row"].to_numpy()], probabilities, target)
    right = target == tests["label"].map(data.classes.index).to_numpy()
    result: dict = {
        "n": len(tests),
        "top_overlap": float(np.nanmean(found["auroc"])),
        "rank_correlation": float(np.nanmean(found["rank_correlation_auroc"])),
        "disputed_area": float(found.pop("disputed_area").mean()),
        "wrong": int((~right).sum()),
    }
    if right.any() and not right.all():
        weights = resample_weights(tests["group"], params.evaluate.resamples, params.seed)
        weights = np.concatenate([np.ones((1, len(right))), weights])
        telling = found | {"confidence_auroc": probabilities.mean(0).max(1)}
        with np.errstate(invalid="ignore"):
            samples = {name: area_under_roc(np.nan_to_num(scores), right, weights) for name, scores in telling.items()}
        samples["confidence_over_agreement"] = samples["confidence_auroc"] - samples["auroc"]
        result |= {f"{name}_of_being_right": estimate(float(all_[0]), all_[1:]) for name, all_ in samples.items()}
    return result


def _networks_compared(params: Params, data: Dataset, chosen: pd.DataFrame, names: list[str]) -> dict[str, list]:
    """By each method, which network's own maps put more of their mass into the tumour, pair by pair: {method: pairs}.

    On the images that both networks call a tumour.
    """
    masks, stored = data.masks_of(chosen), {name: np.load(MAPS / f"{name}.npz") for name in names}
    counted = {
        name: calls_a_tumour(data.classes, made["logits"].argmax(1)) & masks.any(axis=(1, 2))
        for name, made in stored.items()
    }
    return {
        method: compare_values(
            {name: np.where(counted[name], mass_accuracy(stored[name][method], masks), np.nan) for name in names},
            chosen["group"],
            params.evaluate.resamples,
            params.seed,
        )
        for method in params.explain.methods
    }


def _agreements(
    networks: list[Classifier], pixels: np.ndarray, probabilities: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    """How far the networks' Grad-CAMs agree on each of N images, (N,), and the area in dispute; a few at a time."""
    weights = confidence_weights(probabilities, target)
    parts = []
    for start in range(0, len(pixels), AT_ONCE):
        few = slice(start, start + AT_ONCE)
        maps = np.stack([explain(network, to_tensor(pixels[few]), target[few], "gradcam") for network in networks])
        parts.append(combine(maps, weights[:, few]))
    return {
        "auroc": np.concatenate([part.agreement for part in parts]),
        "rank_correlation_auroc": np.concatenate([part.correlation for part in parts]),
        "disputed_area": np.concatenate([part.disputed_area for part in parts]),
    }


if __name__ == "__main__":
    cli.run_stage(consensus)
