"""Put several trainings of one network together: how much its scores differ when only train.seed does.

    dvc exp run --queue -S model=efficientnet_b0 -S train.seed=0,1,2
    dvc queue start
    python -m mri.commands.seeds NAME efficientnet_b0 EXPERIMENT...     # the experiments' names: dvc exp list

writes results/NAME/params.yaml and results/NAME/seeds.json. A score's interval is about other test images, its
deviation about other trainings: neither contains the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.base.cli import guarded
from mri.base.errors import UserError
from mri.base.files import write_json
from mri.base.intervals import value
from mri.base.params import Params
from mri.commands.experiments import check_same, parse_arguments, publish, read_all
from mri.evaluation.scores import from_table, summarise
from mri.evaluation.subgroups import recall_by_origin, worst_group

SCORES = ("worst_group", "accuracy", "balanced_accuracy", "macro_f1")


def score(tables: list[pd.DataFrame], classes: list[str], resamples: int, seed: int) -> dict[str, Any]:
    """Return {score: {value, low, high, each, deviation}} of several trainings' predictions on the same images.

    value: over the predictions of all trainings together, low to high its interval over other images. each: of each
    training. deviation: their standard deviation. worst_group: of each training its own, or missing.
    """
    together = _scores(pd.concat(tables, ignore_index=True), classes, resamples, seed, len(tables))
    every = [_scores(table, classes, resamples, seed) for table in tables]
    rows = {}
    for name in (name for name in SCORES if name in together and all(name in scores for scores in every)):
        each = [value(scores[name]) for scores in every]
        rows[name] = together[name] | {"each": each, "deviation": float(np.std(each, ddof=1))}
    return rows


def _scores(table: pd.DataFrame, classes: list[str], resamples: int, seed: int, trainings: int = 1) -> dict[str, Any]:
    cells = recall_by_origin(table, classes, resamples, seed)
    cells = [cell | {"n": cell["n"] // trainings} for cell in cells]
    return summarise(*from_table(table, classes), classes, resamples, seed) | worst_group(cells)


def collect(arch: str, revisions: list[str]) -> tuple[Params, dict[str, Any]]:
    """Return the first training's parameters and seeds.json's content. Raises UserError if more than the seed differs.

    The experiments' test images have to be the same.
    """
    every, tables = read_all(revisions, arch, "test")
    first = every[0]
    check_same(every, "train", "seed")
    seeds = [params.train.seed for params in every]
    if len(set(seeds)) < max(len(seeds), 2):
        raise UserError(f"the experiments have the seeds {seeds}; needed are two or more that differ")
    if any(not table["id"].equals(tables[0]["id"]) for table in tables):
        raise UserError("the experiments were tested on different images: train them on the same data")
    return first, {
        "architecture": arch,
        "dataset": first.data.name,
        "protocol": first.split.protocol,
        "seeds": seeds,
        "scores": score(tables, first.data.classes, first.evaluate.resamples, first.seed),
    }


def main() -> None:
    arguments = parse_arguments("mri.commands.seeds", __doc__)
    params, content = collect(arguments.architecture, arguments.experiments)
    target = publish(arguments.name, params.model_dump(mode="json"))
    write_json(content, target / "seeds.json")
    macro = content["scores"]["macro_f1"]
    print(
        f"{target}: macro-F1 {macro['value']:.3f} [{macro['low']:.3f}, {macro['high']:.3f}] ± {macro['deviation']:.3f}"
    )


if __name__ == "__main__":
    guarded(main)
