"""Draw and score the explanations of one trained network on test images whose tumour is outlined."""

from typing import Any

import numpy as np

from mri.base import cli
from mri.base.files import write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MAPS, MODELS, PREDICTIONS, SHEETS, SPLITS
from mri.data import dataset
from mri.data.dataset import Dataset
from mri.explanation.agreement import grids_for_consensus
from mri.explanation.faithfulness import score_faithfulness
from mri.explanation.following import Changed, paste_tumours, remove_tumours, score_following
from mri.explanation.localisation import fit_thresholds, score_localisation
from mri.explanation.maps import explain_many
from mri.explanation.sampling import choose_masked
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import predict_logits, to_tensor
from mri.report import gallery
from mri.report.following import following_sheet
from mri.report.sheets import named, save

LATERAL = 4  # masked images looked through for each one scored, since few tumours have a healthy other side


def explain(params: Params, arch: str) -> None:
    """Write artifacts/maps/ARCH.npz (raw maps), metrics/details/explain/ARCH.json, plots/sheets/explain/ARCH.jpg and
    plots/sheets/follow/ARCH.jpg."""
    data = dataset.read(SPLITS, params.data.classes)
    model = models.load(MODELS / arch).model
    removed, pasted = _changed(params, data)
    metrics, arrays = _score(params, data, model)
    if len(arrays["ids"]):
        metrics["follow"] = score_following(model, data, removed, pasted, params.evaluate.resamples, params.seed)
    MAPS.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(MAPS / f"{arch}.npz", **arrays)
    write_json(metrics, DETAILS / f"explain/{arch}.json")
    _show(params, arch, data, model)
    name = named(params.data.name, params.data.source)
    sheet = following_sheet(model, data, removed, pasted, params.explain.sheet, f"{arch} on {name}")
    save(sheet, SHEETS / f"follow/{arch}.jpg")


def _changed(params: Params, data: Dataset) -> tuple[Changed, Changed]:
    """Return test tumours that were removed, and some that were pasted elsewhere; the same for every network."""
    count = params.explain.images
    removed = remove_tumours(data, choose_masked(data, LATERAL * count))[slice(count)]
    return removed, paste_tumours(data, choose_masked(data, count), removed, params.seed)


def _score(params: Params, data: Dataset, model: Classifier) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metrics, and the arrays of the maps that were scored: none where no test image has a mask."""
    count = params.explain.images
    images = choose_masked(data, count)
    if images.empty:
        return {"n": 0, "methods": {}, "baselines": {}}, {"ids": np.array([], str)}
    methods, resamples, seed = params.explain.methods, params.evaluate.resamples, params.seed
    pixels = data.pixels[images["row"].to_numpy()]
    logits = predict_logits(model, pixels)
    maps = explain_many(model, to_tensor(pixels), logits.argmax(1), methods)
    thresholds = fit_thresholds(model, data, choose_masked(data, count, "val"))
    metrics = {
        **score_localisation(model, data, images, logits, maps, thresholds, resamples, seed),
        **score_faithfulness(model, data, methods, params.explain.changed, resamples, seed),
    }
    grids = grids_for_consensus(params, data, model)
    return metrics, {"ids": images["id"].to_numpy(str), "logits": logits, **maps, **grids}


def _show(params: Params, arch: str, data: Dataset, model: Classifier) -> None:
    """Write a sheet of maps of images of all classes, the tumour-free one too, called rightly and wrongly."""
    methods, count = params.explain.methods, params.explain.sheet
    shown = gallery.choose(data, {arch: model}, PREDICTIONS, methods, count, params.seed)
    title = f"{arch} on {named(params.data.name, params.data.source)}"
    save(shown.sheet(arch, title), SHEETS / f"explain/{arch}.jpg")


if __name__ == "__main__":
    cli.run_stage(explain)
