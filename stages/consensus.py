"""Combine the maps of all networks, and measure whether the combination is better than the best of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mri import cli, dataset, models
from mri.attribution import explain, explain_many
from mri.attribution_baselines import blurred_to_entropy
from mri.attribution_scores import entropy, localisation
from mri.consensus import Consensus, combine, confidence_weights, consensus_class
from mri.consensus_scores import Rivals, leads
from mri.evaluation import area_under_roc
from mri.explanations import CORE, calls_a_tumour, of_score, sample
from mri.faithfulness import predictor, removed
from mri.figures import explanation_sheet, for_sheet, named, outcomes, save
from mri.files import write_json
from mri.inference import to_tensor
from mri.intervals import estimate, resample_weights
from mri.models import Classifier
from mri.params import Params
from mri.paths import METRICS, MODELS, PREDICTIONS, SHEETS, SPLITS

# The maps of one network that stand beside the consensus.
SHOWN = ["gradcam", "guided_backprop", "guided_gradcam"]


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
    """Write metrics/consensus.json and plots/sheets/consensus/CLASS.jpg.

    The rivals of the consensus are the best single network, and that one's maps blurred until they are as spread out:
    averaging blurs, and blur alone can raise a score.
    """
    data = dataset.read(SPLITS, params.data.classes)
    chosen = sample(data, params.explain.images)
    names = list(params.model.architectures)
    if len(names) < 2 or chosen.empty:
        why = "a consensus needs two networks" if len(names) < 2 else "no test image has a mask"
        write_json({"n": 0, "why": why}, METRICS / "consensus.json")
        (SHEETS / "consensus").mkdir(parents=True, exist_ok=True)
        (SHEETS / "consensus/.gitkeep").touch()
        return
    probabilities = np.stack([_probabilities(name, chosen["id"], data.classes) for name in names])
    target = consensus_class(probabilities)
    called = Called(chosen, data.pixels[chosen["row"].to_numpy()], data.masks_of(chosen), target)
    networks = {name: models.load(MODELS / name).model for name in names}
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
    metrics["agreement"] = _agreement(params, combined, probabilities, called, data.classes)
    write_json(metrics, METRICS / "consensus.json")
    _sheets(params, called, networks[metrics.get("best_single", {}).get("rma", names[0])], combined)


def _at(maps: dict[str, np.ndarray], where: np.ndarray) -> dict[str, np.ndarray]:
    return {name: made[where] for name, made in maps.items()}


def _sheets(params: Params, called: Called, network: Classifier, combined: Consensus) -> None:
    """A sheet per class of images called rightly and wrongly: one network's maps beside all networks' consensus."""
    labels = called.rows["label"].to_numpy()
    outcome = outcomes(labels.tolist(), [params.data.classes[i] for i in called.target])
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        few = of_class[for_sheet([outcome[i] for i in of_class], params.explain.sheet, params.seed)]
        shown = called[few]
        columns = explain_many(network, to_tensor(shown.pixels), shown.target, SHOWN)
        columns["consensus"] = combined.map[few]
        captions = [f"{outcome[i]}\nagreement {combined.agreement[i]:.2f}" for i in few]
        shown_by = f"maps of {network.spec.name}, and Grad-CAM of all networks together"
        title = f"{label}: {shown_by}, on {named(params.data.name, params.data.source)}"
        sheet = explanation_sheet(shown.pixels, shown.masks, columns, captions, title)
        save(sheet, SHEETS / f"consensus/{label}.jpg")


def _probabilities(name: str, ids: pd.Series, classes: list[str]) -> np.ndarray:
    """float64 (N, C): a network's calibrated probabilities of these test images."""
    table = pd.read_csv(PREDICTIONS / f"{name}.csv", dtype={"id": str}).set_index("id")
    return table.loc[ids, [f"p_{label}" for label in classes]].to_numpy()


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


def _agreement(
    params: Params, combined: Consensus, probabilities: np.ndarray, called: Called, classes: list[str]
) -> dict:
    """Whether agreement tells right classes from wrong ones, beside the networks' mean confidence, which needs no map.

    AUROCs, 0.5 is chance; left out when all are right. probabilities: (A, N, C) of the A networks.
    """
    right = called.target == called.rows["label"].map(classes.index).to_numpy()
    result: dict = {
        "top_overlap": float(np.nanmean(combined.agreement)),
        "rank_correlation": float(np.nanmean(combined.correlation)),
        "disputed_area": float(combined.disputed_area.mean()),
        "wrong": int((~right).sum()),
    }
    if right.any() and not right.all():
        weights = resample_weights(called.rows["group"], params.evaluate.resamples, params.seed)
        weights = np.concatenate([np.ones((1, len(right))), weights])
        telling = {
            "auroc": np.nan_to_num(combined.agreement),
            "rank_correlation_auroc": np.nan_to_num(combined.correlation),
            "confidence_auroc": probabilities.mean(0).max(1),
        }
        with np.errstate(invalid="ignore"):
            samples = {name: area_under_roc(scores, right, weights) for name, scores in telling.items()}
        samples["confidence_over_agreement"] = samples["confidence_auroc"] - samples["auroc"]
        result |= {f"{name}_of_being_right": estimate(float(all_[0]), all_[1:]) for name, all_ in samples.items()}
    return result


if __name__ == "__main__":
    cli.run_stage(consensus)
