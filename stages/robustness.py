"""Test one trained network on images that are worse than those it learned from, and on strange ones."""

from collections.abc import Mapping

import numpy as np
import torch

from mri.base import cli
from mri.base.files import write_csv, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, GATES, MODELS, PLOTS, SPLITS
from mri.data import dataset
from mri.data.dataset import Part, batches
from mri.evaluation.corruptions import curves
from mri.evaluation.gate_fitting import fit_gate, scores_by_kind
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
    test = _sample(data.part("test"), params.robustness.images, params.seed)
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


def _sample(part: Part, count: int, seed: int) -> Part:
    """Draw at most `count` images of a part at random."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(part))[:count])
    return Part(part.index.iloc[rows], part.pixels[rows], part.labels[rows])


def _gate(params: Params, arch: str, model: Classifier, data: dataset.Dataset, sample: Part) -> dict:
    """Fit the gate on training and validation images, save it, and score it.

    All test images are compared with as many strange ones of each kind as there are in `sample`.
    """
    features = {name: _features(model, data.part(name).pixels) for name in ("train", "val", "test")}
    gate = fit_gate(features["train"], features["val"])
    gate.save(GATES / f"{arch}.safetensors")
    groups, sample_groups = (part.index["group"].to_numpy() for part in (data.part("test"), sample))

    def scores(kinds: Mapping) -> dict:
        strange = {
            kind: (
                gate.score(_features(model, make_strange(kind, sample.pixels, params.seed))),
                groups_of(kind, sample_groups),
            )
            for kind in kinds
        }
        inside = gate.score(features["test"])
        return scores_by_kind(gate.threshold, inside, groups, strange, params.evaluate.resamples, params.seed)

    passed = float(gate.passes(features["test"]).mean())
    return {"test_images_let_through": passed, "far": scores(FAR), "near": scores(NEAR)}


def _features(model: Classifier, pixels: np.ndarray) -> np.ndarray:
    """Return what the gate looks at, pooled features of the last convolutional stage, float32 (N, 2 K)."""
    with torch.inference_mode():
        parts = (model.features(to_tensor(pixels[part])).numpy() for part in batches(len(pixels), 32))
        return np.concatenate([pool(part) for part in parts])


if __name__ == "__main__":
    cli.run_stage(robustness)
