"""Show one trained network images that are worse than those it learned from, and some that are none of its business."""

import numpy as np
import torch

from mri.base import cli
from mri.base.files import write_csv, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, GATES, MODELS, PLOTS, SPLITS
from mri.data import dataset
from mri.data.dataset import Part, batches
from mri.evaluation import strange_images
from mri.evaluation.corruptions import curves
from mri.evaluation.strange_images import FAR, NEAR, groups_of, make_strange
from mri.inference.gate import pool
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import predict_logits, to_tensor
from mri.tracking.run import track


def robustness(params: Params, arch: str) -> None:
    """Write plots/robustness/ARCH.csv (accuracy by corruption and severity), artifacts/gates/ARCH.safetensors (what
    stops images of another kind) and metrics/details/robustness/ARCH.json (how well both go)."""
    data = dataset.read(SPLITS, params.data.classes)
    model = models.load(MODELS / arch).model
    test = _some(data.part("test"), params.robustness.images, params.seed)
    groups = test.index["group"].to_numpy()
    resamples, seed = params.evaluate.resamples, params.seed
    table = curves(lambda pixels: predict_logits(model, pixels), test.pixels, test.labels, groups, (), resamples, seed)
    write_csv(table, PLOTS / "robustness" / f"{arch}.csv", digits=4)
    metrics = {
        "images": len(test),
        "accuracy": float(table["accuracy"].iloc[0]),
        "accuracy_when": table[table["severity"] > 0].groupby("corruption")["accuracy"].mean().to_dict(),
        "gate": _gate(params, arch, model, data, test),
    }
    write_json(metrics, DETAILS / "robustness" / f"{arch}.json")
    with track(f"robustness@{arch}", {"data": params.data.name}) as run:
        run.params({"robustness": params.robustness.model_dump()})
        run.file(DETAILS / "robustness" / f"{arch}.json", "metrics")
        run.file(PLOTS / "robustness" / f"{arch}.csv", "plots")


def _some(part: Part, count: int, seed: int) -> Part:
    """At most `count` images of a part, drawn at random."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(part))[:count])
    return Part(part.index.iloc[rows], part.pixels[rows], part.labels[rows])


def _gate(params: Params, arch: str, model: Classifier, data: dataset.Dataset, shown: Part) -> dict:
    """Fit the gate on training and validation images, save it, and score it: on all test images against as many strange
    ones of each kind as there are in `shown`."""
    features = {name: _features(model, data.part(name).pixels) for name in ("train", "val", "test")}
    gate = strange_images.fit_gate(features["train"], features["val"])
    gate.save(GATES / f"{arch}.safetensors")
    inside, own = gate.score(features["test"]), data.part("test").index["group"].to_numpy()
    sources = shown.index["group"].to_numpy()
    scores: dict = {"test_images_let_through": float(gate.passes(features["test"]).mean())}
    for name, kinds in (("far", FAR), ("near", NEAR)):
        strange = {
            kind: (
                gate.score(_features(model, make_strange(kind, shown.pixels, params.seed))),
                groups_of(kind, sources),
            )
            for kind in kinds
        }
        together = tuple(np.concatenate(parts) for parts in zip(*strange.values(), strict=True))
        scores[name] = {
            kind: strange_images.detection_scores(
                inside, outside, own, made_from, params.evaluate.resamples, params.seed
            )
            | {"let_through": float((outside <= gate.threshold).mean())}
            for kind, (outside, made_from) in ({"all": together} | strange).items()
        }
    return scores


def _features(model: Classifier, pixels: np.ndarray) -> np.ndarray:
    """float32 (N, 2 K): what the gate looks at, from the last convolutional stage."""
    with torch.inference_mode():
        parts = (model.features(to_tensor(pixels[part])).numpy() for part in batches(len(pixels), 32))
        return np.concatenate([pool(part) for part in parts])


if __name__ == "__main__":
    cli.run_stage(robustness)
