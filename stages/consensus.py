"""Combine the maps of all networks, and measure whether the combination is better than the best of them."""

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
from mri.figures import explanation_sheet, for_sheet, outcomes, save
from mri.files import write_json
from mri.inference import to_tensor
from mri.intervals import estimate, resample_weights
from mri.models import Classifier
from mri.params import Params
from mri.paths import METRICS, MODELS, PREDICTIONS, SHEETS, SPLITS

# The maps of one network that stand beside the consensus.
SHOWN = ["gradcam", "guided_backprop", "guided_gradcam"]


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
        return
    probabilities = np.stack([_probabilities(name, chosen["id"], data.classes) for name in names])
    target = consensus_class(probabilities)
    pixels, masks = data.pixels[chosen["row"].to_numpy()], data.masks_of(chosen)
    images = to_tensor(pixels)
    networks = [models.load(MODELS / name).model for name in names]
    maps = np.stack([explain(network, images, target, "gradcam") for network in networks])
    combined = combine(maps, confidence_weights(probabilities, target))
    right = target == chosen["label"].map(data.classes.index).to_numpy()
    counted = calls_a_tumour(data.classes, target) & masks.any(axis=(1, 2))
    metrics: dict = {"n": 0, "why": "no tumour is called"}
    if counted.any():
        groups = chosen["group"][counted]
        metrics = _scores(params, names, maps[:, counted], combined.map[counted], masks[counted], groups)
        few = np.flatnonzero(counted)[for_sheet(chosen["label"][counted].tolist(), params.explain.changed, params.seed)]
        best = maps[names.index(metrics["best_single"])][few]
        road = _road(params, networks, pixels[few], target[few], combined.map[few], best, chosen["group"][few])
        for rival, scores in road.items():
            metrics[rival] |= scores
    confidence = probabilities.mean(0).max(1)
    metrics["agreement"] = _agreement(params, combined, confidence, right, chosen["group"])
    write_json(metrics, METRICS / "consensus.json")
    best = networks[names.index(metrics.get("best_single", names[0]))]
    called = outcomes(chosen["label"].tolist(), [data.classes[i] for i in target])
    for label in chosen["label"].unique():
        _sheet(params, label, called, best, pixels, masks, target, combined)


def _sheet(
    params: Params,
    label: str,
    called: list[str],
    network: Classifier,
    pixels: np.ndarray,
    masks: np.ndarray,
    target: np.ndarray,
    combined: Consensus,
) -> None:
    """Images of one class that were called rightly and wrongly: one network's maps beside all networks' consensus."""
    of_class = np.flatnonzero([outcome.split("\n")[0] == label for outcome in called])
    shown = of_class[for_sheet([called[i] for i in of_class], params.explain.sheet, params.seed)]
    columns = explain_many(network, to_tensor(pixels[shown]), target[shown], SHOWN)
    columns["consensus"] = combined.map[shown]
    captions = [f"{called[i]}\nagreement {combined.agreement[i]:.2f}" for i in shown]
    title = f"{label}, {params.data.name}: maps of {network.spec.name}, and Grad-CAM of all networks together"
    sheet = explanation_sheet(pixels[shown], masks[shown], columns, captions, title)
    save(sheet, SHEETS / f"consensus/{label}.jpg")


def _probabilities(name: str, ids: pd.Series, classes: list[str]) -> np.ndarray:
    """float64 (N, C): a network's calibrated probabilities of these test images."""
    table = pd.read_csv(PREDICTIONS / f"{name}.csv", dtype={"id": str}).set_index("id")
    return table.loc[ids, [f"p_{label}" for label in classes]].to_numpy()


def _scores(
    params: Params, names: list[str], maps: np.ndarray, combined: np.ndarray, masks: np.ndarray, groups
) -> dict:
    """Each network's and the consensus' localisation, and the consensus' lead over the best and over mere blur."""
    weights = resample_weights(groups, params.evaluate.resamples, params.seed)
    everything = dict(zip(names, maps, strict=True)) | {"consensus": combined}
    rma = {name: localisation(made, masks)["rma"] for name, made in everything.items()}
    best = max(names, key=lambda name: rma[name].mean())
    blurred = blurred_to_entropy(everything[best], entropy(combined))
    return {
        "n": len(masks),
        "rma": {name: estimate(float(v.mean()), weights @ v / weights.sum(1)) for name, v in rma.items()},
        "best_single": best,
        "lead_over_best_single": lead(combined, everything[best], masks, weights),
        "lead_over_best_single_blurred_alike": lead(combined, blurred, masks, weights),
    }


def _road(
    params: Params,
    networks: list[Classifier],
    pixels: np.ndarray,
    target: np.ndarray,
    combined: np.ndarray,
    best: np.ndarray,
    groups: pd.Series,
) -> dict[str, dict]:
    """The consensus' lead in ROAD, asking all networks together, over the same two rivals as in `_scores`."""
    rivals = {
        "lead_over_best_single": best,
        "lead_over_best_single_blurred_alike": blurred_to_entropy(best, entropy(combined)),
    }
    predict = predictor(*networks)
    weights = resample_weights(groups, params.evaluate.resamples, params.seed)
    own = removed(predict, pixels, combined, target, params.seed)
    others = {name: removed(predict, pixels, maps, target, params.seed) for name, maps in rivals.items()}
    return {name: {"road": difference(own, other, weights)} for name, other in others.items()}


def _agreement(params: Params, combined: Consensus, confidence: np.ndarray, right: np.ndarray, groups) -> dict:
    """Whether agreement tells right classes from wrong ones, beside the networks' mean confidence, which needs no map.

    AUROCs, 0.5 is chance; left out when all are right.
    """
    result: dict = {
        "top_overlap": float(np.nanmean(combined.agreement)),
        "rank_correlation": float(np.nanmean(combined.correlation)),
        "disputed_area": float(combined.disputed_area.mean()),
        "wrong": int((~right).sum()),
    }
    if right.any() and not right.all():
        weights = resample_weights(groups, params.evaluate.resamples, params.seed)
        weights = np.concatenate([np.ones((1, len(right))), weights])
        for name, scores in (("auroc", np.nan_to_num(combined.agreement)), ("confidence_auroc", confidence)):
            with np.errstate(invalid="ignore"):
                samples = area_under_roc(scores, right, weights)
            result[f"{name}_of_being_right"] = estimate(float(samples[0]), samples[1:])
    return result


if __name__ == "__main__":
    cli.run_stage(consensus)
