"""Compare experiments that change one thing each, by their scores on validation images; test images have no say.

    dvc exp run --queue -n base ... evaluate@resnet50
    dvc exp run --queue -n with-cutmix ... -S train.augment.cutmix=0.5 evaluate@resnet50
    dvc queue start --jobs 2
    python -m mri.ablation NAME resnet50 base with-cutmix ...

writes results/NAME/params.yaml, the first experiment's, and results/NAME/ablation.csv, a line per experiment with what
it changes in the first one's parameters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
import yaml

from mri.cli import guarded
from mri.errors import UserError
from mri.files import write_csv
from mri.paths import METRICS, RESULTS


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
    try:
        parameters = yaml.safe_load(dvc.api.read("params.yaml", rev=revision))
        scores = json.loads(dvc.api.read(str(METRICS / f"evaluate/{arch}.json"), rev=revision))["val"]
        training = json.loads(dvc.api.read(str(METRICS / f"train/{arch}.json"), rev=revision))
    except Exception as error:  # git's and DVC's own kinds
        raise UserError(f"{revision} has no scores of {arch}: {' '.join(str(error).split())}") from None
    return parameters, {**scores, "seconds": training["seconds"]}


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
    parser = argparse.ArgumentParser(
        prog="python -m mri.ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="the folder under results/, for example ablation")
    parser.add_argument("architecture")
    parser.add_argument("experiments", nargs="+", help="names or commits; others are compared with the first")
    arguments = parser.parse_args()
    found = {revision: read(revision, arguments.architecture) for revision in arguments.experiments}
    target = Path(RESULTS) / arguments.name
    rows = table(found)
    write_csv(rows, target / "ablation.csv", digits=4)
    parameters = found[arguments.experiments[0]][0]
    (target / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
    print(rows.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    guarded(main)
