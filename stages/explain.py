"""Draw and score the explanations of one trained network on test images whose tumour is outlined."""

from typing import Any

import numpy as np

from mri.base import cli
from mri.base.files import write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MAPS, MODELS, PREDICTIONS, SHEETS, SPLITS
from mri.data import dataset
from mri.data.dataset import Dataset
from mri.explanation.faithfulness import score_faithfulness
from mri.explanation.localisation import score_localisation
from mri.explanation.maps import explain_many
from mri.explanation.sampling import choose_masked
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import predict_logits, to_tensor
from mri.report import gallery
from mri.report.sheets import named, save
from mri.tracking.run import track


def explain(params: Params, arch: str) -> None:
    """Write artifacts/maps/ARCH.npz (raw maps), metrics/details/explain/ARCH.json and plots/sheets/explain/ARCH.jpg."""
    data = dataset.read(SPLITS, params.data.classes)
    model = models.load(MODELS / arch).model
    metrics, arrays = _score(params, data, model)
    MAPS.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(MAPS / f"{arch}.npz", **arrays)
    write_json(metrics, DETAILS / f"explain/{arch}.json")
    _show(params, arch, data, model)
    if not len(arrays["ids"]):
        return
    with track(f"explain@{arch}", {"data": params.data.name}) as run:
        run.params({"explain": params.explain.model_dump()})
        run.file(DETAILS / f"explain/{arch}.json", "metrics")
        run.file(SHEETS / f"explain/{arch}.jpg", "plots")


def _score(params: Params, data: Dataset, model: Classifier) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metrics, and the arrays of the maps that were scored: none where no test image has a mask."""
    images = choose_masked(data, params.explain.images)
    if images.empty:
        return {"n": 0, "methods": {}, "baselines": {}}, {"ids": np.array([], str)}
    methods, resamples, seed = params.explain.methods, params.evaluate.resamples, params.seed
    pixels = data.pixels[images["row"].to_numpy()]
    logits = predict_logits(model, pixels)
    maps = explain_many(model, to_tensor(pixels), None, methods)
    metrics = {
        **score_localisation(model, data, images, logits, maps, resamples, seed),
        **score_faithfulness(model, data, methods, params.explain.changed, resamples, seed),
    }
    return metrics, {"ids": images["id"].to_numpy(str), "logits": logits, **maps}


def _show(params: Params, arch: str, data: Dataset, model: Classifier) -> None:
    """Write a sheet of maps of images of all classes, the tumour-free one too, called rightly and wrongly."""
    methods, count = params.explain.methods, params.explain.sheet
    shown = gallery.choose(data, {arch: model}, PREDICTIONS, methods, count, params.seed)
    title = f"{arch} on {named(params.data.name, params.data.source)}"
    save(shown.sheet(arch, title), SHEETS / f"explain/{arch}.jpg")


if __name__ == "__main__":
    cli.run_stage(explain)
