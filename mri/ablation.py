"""Compare experiments that change one thing each, by their scores on validation images; test images have no say.

    dvc exp run --queue -n base ... evaluate@resnet50
    dvc exp run --queue -n with-cutmix ... -S train.augment.cutmix=0.5 evaluate@resnet50
    dvc queue start --jobs 2
    python -m mri.ablation NAME resnet50 base with-cutmix ...

writes results/NAME/params.yaml, the first experiment's, and results/NAME/ablation.csv, a line per experiment with what
it changes in the first one's parameters.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import yaml

from mri import experiments
from mri.cli import guarded
from mri.files import write_csv
from mri.params import FILE
from mri.paths import METRICS


def changes(base: Any, other: Any, name: str = "") -> list[str]:
    """What `other` has instead, as "train.lr=0.001"; "train.lr is gone" for what it lacks. Lists count as one value."""
    if base == other:
        return []
    if not (isinstance(base, dict) and isinstance(other, dict)):
        return [f"{name}={json.dumps(other)}".replace('"', "")]
    found = []
    for key in [*base, *(key for key in other if key not in base)]:
        inner = f"{name}.{key}" if name else key
        found += changes(base.get(key, {}), other[key], inner) if key in other else [f"{inner} is gone"]
    return found


def read(revision: str, arch: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of an experiment, and the validation scores and training metrics of one network in it."""
    files = (FILE, METRICS / f"train/{arch}.json", METRICS / f"evaluate/{arch}.json")
    parameters, training, scores = experiments.read(revision, *files)
    return yaml.safe_load(parameters), {**json.loads(scores)["val"], "seconds": json.loads(training)["seconds"]}


def table(found: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> pd.DataFrame:
    """One row per experiment of {name: (parameters, scores)}; the first is what the others are compared with."""
    base = next(iter(found.values()))[0]
    rows = []
    for name, (parameters, scores) in found.items():
        macro, balanced = scores["macro_f1"], scores["balanced_accuracy"]
        rows.append(
            {
                "experiment": name,
                "changes": "; ".join(changes(base, parameters)),
                "val_macro_f1": macro["value"],
                "val_macro_f1_low": macro["low"],
                "val_macro_f1_high": macro["high"],
                "val_balanced_accuracy": balanced["value"],
                "training_seconds": scores["seconds"],
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    arguments = experiments.arguments("mri.ablation", __doc__)
    found = {revision: read(revision, arguments.architecture) for revision in arguments.experiments}
    rows = table(found)
    target = experiments.published(arguments.name, found[arguments.experiments[0]][0])
    write_csv(rows, target / "ablation.csv", digits=4)
    print(rows.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    guarded(main)
