"""Pool the folds of a cross-validation: each image is scored by the network that was trained without its fold.

    dvc exp run --queue -S model=efficientnet_b0 -S split.folds=5 -S split.fold=1,2,3,4,5
    dvc queue start                                            # or dvc exp run --run-all
    python -m mri.commands.folds NAME efficientnet_b0 EXPERIMENT...     # the experiments' names: dvc exp list

writes results/NAME/params.yaml and results/NAME/folds.json. Pooled over all patients, intervals are much narrower than
those of one test part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.base.cli import guarded
from mri.base.errors import UserError
from mri.base.files import write_json
from mri.base.params import Params, SplitOptions, parse
from mri.commands import experiments
from mri.evaluation.scores import summarise


def pool(tables: list[pd.DataFrame], classes: list[str], resamples: int, seed: int) -> dict[str, Any]:
    """Scores of all folds' test images together, as `mri.evaluation.scores.summarise` gives them.

    tables: per fold, the predictions on its test images: id, group, label and p_CLASS. Raises UserError when an image
    or a group is in more than one of them: those are no folds.
    """
    together = pd.concat([table.assign(fold=number) for number, table in enumerate(tables)], ignore_index=True)
    for column in ("id", "group"):
        torn = together.groupby(column)["fold"].nunique()
        if (torn > 1).any():
            raise UserError(
                f"{column} {torn.idxmax()!r} is tested in more than one fold: these are not folds of one split"
            )
    probabilities = together[[f"p_{name}" for name in classes]].to_numpy()
    labels = together["label"].map(classes.index).to_numpy(np.int64)
    return summarise(probabilities, labels, together["group"].to_numpy(), classes, resamples, seed)


def collect(arch: str, revisions: list[str]) -> tuple[Params, dict[str, Any]]:
    """The first fold's parameters, and what folds.json holds. Raises UserError when they aren't folds of one run."""
    read = [experiments.read(revision, arch, "test") for revision in revisions]
    found = [
        (parse(parameters, f"params.yaml of {name}"), table)
        for name, (parameters, table) in zip(revisions, read, strict=True)
    ]
    first = found[0][0]
    alike = [params.model_copy(update={"split": _with_fold(params.split, first.split.fold)}) for params, _ in found]
    if any(params != first for params in alike):
        raise UserError("the experiments differ in more than split.fold: pool those of one run")
    folds = sorted(params.split.fold for params, _ in found)
    if folds != list(range(1, first.split.folds + 1)):
        raise UserError(f"the experiments are folds {folds}; needed is each of 1 to {first.split.folds} once")
    settings = (first.data.classes, first.evaluate.resamples, first.seed)
    each = [pool([table], *settings)["balanced_accuracy"]["value"] for _, table in found]
    return first, {
        "architecture": arch,
        "dataset": first.data.name,
        "protocol": first.split.protocol,
        "folds": first.split.folds,
        "balanced_accuracy_per_fold": each,
        "pooled": pool([table for _, table in found], *settings),
    }


def _with_fold(split: SplitOptions, fold: int) -> SplitOptions:
    return split.model_copy(update={"fold": fold})


def main() -> None:
    arguments = experiments.arguments("mri.commands.folds", __doc__)
    params, content = collect(arguments.architecture, arguments.experiments)
    target = experiments.published(arguments.name, params.model_dump(mode="json"))
    write_json(content, target / "folds.json")
    score = content["pooled"]["balanced_accuracy"]
    print(f"{target}: balanced accuracy {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")


if __name__ == "__main__":
    guarded(main)
