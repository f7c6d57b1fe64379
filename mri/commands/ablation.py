"""Compare experiments that change one thing each, by their scores on validation images; test images don't count.

    dvc exp run --queue -n base ... evaluate@resnet50
    dvc exp run --queue -n with-cutmix ... -S train.augment.cutmix=0.5 evaluate@resnet50
    dvc queue start --jobs 2
    python -m mri.commands.ablation NAME resnet50 base with-cutmix ...

writes results/NAME/params.yaml, the first experiment's, and results/NAME/ablation.csv, a line per experiment with what
it changes in the first one's parameters and by how much it scores higher on the same images.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from mri.base.cli import guarded
from mri.base.files import write_csv
from mri.base.intervals import estimate, resample_weights
from mri.commands.experiments import parse_arguments, publish, read
from mri.evaluation.scores import balanced_accuracy, macro_f1


def changes(base: Any, other: Any, name: str = "") -> list[str]:
    """List what differs in `other`, as "train.lr=0.001", or "train.lr is gone" if missing. A list is one value."""
    if base == other:
        return []
    if not (isinstance(base, dict) and isinstance(other, dict)):
        return [f"{name}={json.dumps(other)}".replace('"', "")]
    differences = []
    for key in [*base, *(key for key in other if key not in base)]:
        inner = f"{name}.{key}" if name else key
        differences += changes(base.get(key, {}), other[key], inner) if key in other else [f"{inner} is gone"]
    return differences


def table(experiments: dict[str, tuple[dict[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Return a row per experiment of {name: (parameters, predictions)}, each compared with the first.

    predictions: id, group, label and predicted of the validation images, in the order of ids. lead: in macro-F1, with
    the 95 % interval of the difference on the same images (paired bootstrap clustered by group); empty where the
    experiments were validated on different images.
    """
    base, first = next(iter(experiments.values()))
    classes, settings = base["data"]["classes"], (base["evaluate"]["resamples"], base["seed"])
    samples = {name: _scores(predictions, classes, *settings) for name, (_, predictions) in experiments.items()}
    reference = next(iter(samples.values()))["macro_f1"]
    rows = []
    for name, (parameters, predictions) in experiments.items():
        row: dict[str, Any] = {"experiment": name, "changes": "; ".join(changes(base, parameters))}
        for score, values in samples[name].items():
            row |= _columns(f"val_{score}", values)
        if predictions["id"].equals(first["id"]) and predictions is not first:
            row |= _columns("lead", samples[name]["macro_f1"] - reference)
        rows.append(row)
    return pd.DataFrame(rows)


def _scores(predictions: pd.DataFrame, classes: list[str], resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Return each score on all images and in every resample, (1 + B,)."""
    labels, predicted = (predictions[column].map(classes.index).to_numpy() for column in ("label", "predicted"))
    weights = resample_weights(predictions["group"], resamples, seed)
    weights = np.concatenate([np.ones((1, len(labels))), weights])
    return {
        "macro_f1": macro_f1(labels, predicted, len(classes), weights),
        "balanced_accuracy": balanced_accuracy(labels, predicted, len(classes), weights),
    }


def _columns(name: str, values: np.ndarray) -> dict[str, float]:
    score = estimate(float(values[0]), values[1:])
    return {name: score["value"], f"{name}_low": score["low"], f"{name}_high": score["high"]}


def main() -> None:
    arguments = parse_arguments("mri.commands.ablation", __doc__)
    experiments = {name: read(name, arguments.architecture, "val") for name in arguments.experiments}
    rows = table(experiments)
    target = publish(arguments.name, experiments[arguments.experiments[0]][0])
    write_csv(rows, target / "ablation.csv", digits=4)
    print(rows.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    guarded(main)
