"""Test the exported networks on images that are worse than those they learned from, and on strange ones."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mri.base import cli
from mri.base.files import write_csv, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, EXPORTED, GATES, PLOTS, SPLITS
from mri.data import dataset
from mri.data.dataset import Part
from mri.evaluation.corruptions import corrupt_all, curves
from mri.evaluation.gate_fitting import failures, scores_by_kind
from mri.evaluation.strange_images import FAR, KINDS, NEAR, UNSEEN, groups_of, make_strange
from mri.inference.gate import Gate
from mri.inference.runtime import Runtime


def robustness(params: Params) -> None:
    """Write plots/robustness/ARCH.csv (accuracy by corruption and severity) and metrics/details/robustness/ARCH.json
    (that, and how well the gate tells strange images) of every network, in fp32. The images are the same for all."""
    test = dataset.read(SPLITS, params.data.classes).part("test")
    sample = test.sample(params.robustness.images, params.seed)
    corrupted = corrupt_all(sample.pixels, (), params.seed)
    # Not the seed of those that the gate was fitted on: kinds that are made of no image would be the same.
    strange = {kind: make_strange(kind, sample.pixels, params.seed + 1) for kind in KINDS}
    for arch in params.model.architectures:
        runtime, gate = Runtime(EXPORTED / arch, "fp32"), Gate.load(GATES / f"{arch}.safetensors")
        table = _curves(params, runtime, sample, corrupted)
        write_csv(table, PLOTS / "robustness" / f"{arch}.csv", digits=4)
        metrics = {
            "images": len(sample),
            "accuracy": float(table["accuracy"].iloc[0]),
            "accuracy_when": table[table["severity"] > 0].groupby("corruption")["accuracy"].mean().to_dict(),
            "gate": _score_gate(params, runtime, gate, test, sample, strange),
        }
        write_json(metrics, DETAILS / "robustness" / f"{arch}.json")


def _curves(params: Params, runtime: Runtime, sample: Part, corrupted: Mapping[str, list[np.ndarray]]) -> pd.DataFrame:
    groups = sample.index["group"].to_numpy()
    return curves(
        lambda pixels: runtime.logits_and_pooled(pixels)[0],
        sample.pixels,
        corrupted,
        sample.labels,
        groups,
        params.evaluate.resamples,
        params.seed,
    )


def _score_gate(
    params: Params, runtime: Runtime, gate: Gate, test: Part, sample: Part, strange: Mapping[str, np.ndarray]
) -> dict:
    """Compare all test images with as many strange ones of each kind as there are in `sample`, of which they are made.

    strange: uint8 (N, S, S) by kind.
    """
    groups, sample_groups = (part.index["group"].to_numpy() for part in (test, sample))
    inside = gate.score(runtime.logits_and_pooled(test.pixels)[1])

    def scores(kinds: Mapping) -> dict:
        outside = {
            kind: (gate.score(runtime.logits_and_pooled(strange[kind])[1]), groups_of(kind, sample_groups))
            for kind in kinds
        }
        return scores_by_kind(gate.threshold, inside, groups, outside, params.evaluate.resamples, params.seed)

    by_distance = {"far": scores(FAR), "near": scores(NEAR), "unseen": scores(UNSEEN)}
    passed = float((inside <= gate.threshold).mean())
    return {"test_images_let_through": passed, **by_distance, "failures": failures(by_distance)}


if __name__ == "__main__":
    cli.run_stage(robustness)
