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
from mri.evaluation import area_under_roc
from mri.explanations import calls_a_tumour, difference, lead, sample
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

    The rivals of the consensus are the best single network, and that one's maps blurred until they are as spread out.
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
        metrics = _scores(params, called[counted], _at(maps, counted), combined.map[counted])
        few = counted[for_sheet(chosen["label"].iloc[counted].tolist(), params.explain.changed, params.seed)]
        best = maps[metrics["best_single"]][few]
        road = _road(params, list(networks.values()), called[few], combined.map[few], best)
        for rival, scores in road.items():
            metrics[rival] |= scores
    metrics["agreement"] = _agreement(params, combined, probabilities, called, data.classes)
    write_json(metrics, METRICS / "consensus.json")
    _sheets(params, called, networks[metrics.get("best_single", names[0])], combined)


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


def _scores(params: Params, called: Called, maps: dict[str, np.ndarray], combined: np.ndarray) -> dict:
    """Each network's and the consensus' localisation, and the consensus' lead over the best and over mere blur."""
    weights = resample_weights(called.rows["group"], params.evaluate.resamples, params.seed)
    everything = maps | {"consensus": combined}
    rma = {name: localisation(made, called.masks)["rma"] for name, made in everything.items()}
    best = max(maps, key=lambda name: rma[name].mean())
    blurred = blurred_to_entropy(maps[best], entropy(combined))
    return {
        "n": len(called.target),
        "rma": {name: estimate(float(v.mean()), weights @ v / weights.sum(1)) for name, v in rma.items()},
        "best_single": best,
        "lead_over_best_single": lead(combined, maps[best], called.masks, weights),
        "lead_over_best_single_blurred_alike": lead(combined, blurred, called.masks, weights),
    }


def _road(
    params: Params, networks: list[Classifier], called: Called, combined: np.ndarray, best: np.ndarray
) -> dict[str, dict]:
    """The consensus' lead in ROAD, asking all networks together, over the same two rivals as in `_scores`."""
    rivals = {
        "lead_over_best_single": best,
        "lead_over_best_single_blurred_alike": blurred_to_entropy(best, entropy(combined)),
    }
    predict = predictor(*networks)
    weights = resample_weights(called.rows["group"], params.evaluate.resamples, params.seed)
    own = removed(predict, called.pixels, combined, called.target, params.seed)
    others = {name: removed(predict, called.pixels, maps, called.target, params.seed) for name, maps in rivals.items()}
    return {name: {"road": difference(own, other, weights)} for name, other in others.items()}


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
        confidence = probabilities.mean(0).max(1)
        for name, scores in (("auroc", np.nan_to_num(combined.agreement)), ("confidence_auroc", confidence)):
            with np.errstate(invalid="ignore"):
                samples = area_under_roc(scores, right, weights)
            result[f"{name}_of_being_right"] = estimate(float(samples[0]), samples[1:])
    return result


if __name__ == "__main__":
    cli.run_stage(consensus)
