"""Draw and score the explanations of one trained network on test images whose tumour is outlined."""

import numpy as np

from mri.base import cli
from mri.base.files import write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MAPS, MODELS, PREDICTIONS, SHEETS, SPLITS
from mri.data import dataset
from mri.evaluation.scores import TUMOUR_FREE
from mri.explanation import faithfulness
from mri.explanation.localisation import calls_a_tumour, grids_of, maps_of, sample, summarise
from mri.explanation.sampling import candidates, draw, outcomes
from mri.networks import models
from mri.networks.predict import predict_logits, to_tensor
from mri.report.sheets import explanation_sheet, named, save
from mri.tracking.run import track


def explain(params: Params, arch: str) -> None:
    """Write artifacts/maps/ARCH.npz (raw maps), metrics/details/explain/ARCH.json and plots/sheets/explain/ARCH.jpg."""
    data = dataset.read(SPLITS, params.data.classes)
    model = models.load(MODELS / arch).model
    chosen = sample(data, params.explain.images)
    if chosen.empty:
        _nothing_to_score(arch)
        _sheet(params, arch, data, model)
        return
    pixels, masks = data.pixels[chosen["row"].to_numpy()], data.masks_of(chosen)
    logits = predict_logits(model, pixels)
    maps = maps_of(model, to_tensor(pixels), None, params.explain.methods)
    MAPS.mkdir(parents=True, exist_ok=True)
    arrays: dict = {"ids": chosen["id"].to_numpy(str), "logits": logits, **maps}
    np.savez_compressed(MAPS / f"{arch}.npz", **arrays)
    counted = calls_a_tumour(data.classes, logits.argmax(1)) & masks.any(axis=(1, 2))
    grids = grids_of(model, pixels)
    metrics = summarise(
        {name: made[counted] for name, made in maps.items()},
        pixels[counted],
        masks[counted],
        chosen["group"].to_numpy()[counted],
        grids,
        params.evaluate.resamples,
        params.seed,
    )
    cells = {name: "x".join(map(str, grid.shape)) for name, grid in grids.items()}
    metrics |= {"grids": cells, **_faithfulness(params, model, data)}
    write_json(metrics, DETAILS / f"explain/{arch}.json")
    _sheet(params, arch, data, model)
    with track(f"explain@{arch}", {"data": params.data.name}) as run:
        run.params({"explain": params.explain.model_dump()})
        run.file(DETAILS / f"explain/{arch}.json", "metrics")
        run.file(SHEETS / f"explain/{arch}.jpg", "plots")


def _faithfulness(params: Params, model: models.Classifier, data: dataset.Dataset) -> dict:
    """What needs no mask of every image: `faithfulness` on few tumours that the network calls tumours, right or wrong,
    and `tumour_free` on as many images without one."""
    settings = (params.explain.methods, params.evaluate.resamples, params.seed)
    few = sample(data, params.explain.changed)
    if len(few):
        few = few[calls_a_tumour(data.classes, predict_logits(model, data.pixels[few["row"]]).argmax(1))]
    scores: dict = {}
    if len(few) > 1:
        groups = few["group"].to_numpy()
        scores["faithfulness"] = faithfulness.summarise(model, data.pixels[few["row"]], groups, *settings)
    test = data.index[(data.index["split"] == "test") & (data.index["label"] == TUMOUR_FREE)]
    # One of each group, groups in random order: the first of a list are often of one source.
    free = test.sample(frac=1, random_state=params.seed).groupby("group").head(1).head(params.explain.changed)
    if len(free):
        groups = free["group"].to_numpy()
        scores["tumour_free"] = faithfulness.mass_outside_head(model, data.pixels[free["row"]], groups, *settings)
    return scores


def _nothing_to_score(arch: str) -> None:
    """No test image has a mask, which the metrics say."""
    MAPS.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(MAPS / f"{arch}.npz", ids=np.array([], str))
    write_json({"n": 0, "methods": {}, "baselines": {}}, DETAILS / f"explain/{arch}.json")


def _sheet(params: Params, arch: str, data: dataset.Dataset, model: models.Classifier) -> None:
    """Maps of images of all classes, the tumour-free one too, that the network calls rightly and wrongly."""
    few = draw(candidates(data, PREDICTIONS, [arch]), params.explain.sheet, params.seed)
    pixels, labels, called = data.pixels[few["row"].to_numpy()], few["label"].tolist(), few["called"].tolist()
    images, target = to_tensor(pixels), np.array([data.classes.index(name) for name in called])
    maps = maps_of(model, images, target, params.explain.methods)
    title = f"{arch} on {named(params.data.name, params.data.source)}"
    figure = explanation_sheet(pixels, data.outlines(few), maps, outcomes(labels, called), title)
    save(figure, SHEETS / "explain" / f"{arch}.jpg")


if __name__ == "__main__":
    cli.run_stage(explain)
