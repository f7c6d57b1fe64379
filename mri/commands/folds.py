"""Pool the folds of a cross-validation: each image is scored by the network that was trained without its fold.

    dvc exp run --queue -S model=efficientnet_b0 -S split.folds=5 -S split.fold=1,2,3,4,5
    dvc queue start                                            # or dvc exp run --run-all
    python -m mri.commands.folds NAME efficientnet_b0 EXPERIMENT...     # the experiments' names: dvc exp list

writes results/NAME/params.yaml and results/NAME/folds.json. Pooled over all patients, intervals are much narrower than
those of one test part.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from mri.base.cli import guarded
from mri.base.errors import UserError
from mri.base.files import write_json
from mri.base.params import Params, SplitOptions, parse
from mri.commands.experiments import parse_arguments, publish, read
from mri.evaluation.scores import from_table, summarise


def pool(tables: list[pd.DataFrame], classes: list[str], resamples: int, seed: int) -> dict[str, Any]:
    """Score all folds' test images together, as `mri.evaluation.scores.summarise` does.

    tables: per fold, the predictions on its test images: id, group, label and p_CLASS. Raises UserError when an image
    or a group is in more than one of them: those are no folds.
    """
    together = pd.concat([table.assign(fold=number) for number, table in enumerate(tables)], ignore_index=True)
    for column in ("id", "group"):
        folds = together.groupby(column)["fold"].nunique()
        if (folds > 1).any():
            raise UserError(
                f"{column} {folds.idxmax()!r} is tested in more than one fold: these are not folds of one split"
            )
    return summarise(*from_table(together, classes), classes, resamples, seed)


def collect(arch: str, revisions: list[str]) -> tuple[Params, dict[str, Any]]:
    """Return the first fold's parameters and folds.json's content. Raises UserError if they aren't one run's folds."""
    results = [read(revision, arch, "test") for revision in revisions]
    every = [
        parse(parameters, f"params.yaml of {name}") for name, (parameters, _) in zip(revisions, results, strict=True)
    ]
    tables = [table for _, table in results]
    first = every[0]
    same_fold = [params.model_copy(update={"split": _with_fold(params.split, first.split.fold)}) for params in every]
    if any(params != first for params in same_fold):
        raise UserError("the experiments differ in more than split.fold: pool those of one run")
    folds = sorted(params.split.fold for params in every)
    if folds != list(range(1, first.split.folds + 1)):
        raise UserError(f"the experiments are folds {folds}; needed is each of 1 to {first.split.folds} once")
    settings = (first.data.classes, first.evaluate.resamples, first.seed)
    each = [pool([table], *settings)["balanced_accuracy"]["value"] for table in tables]
    return first, {
        "architecture": arch,
        "dataset": first.data.name,
        "protocol": first.split.protocol,
        "folds": first.split.folds,
        "balanced_accuracy_per_fold": each,
        "pooled": pool(tables, *settings),
    }


def _with_fold(split: SplitOptions, fold: int) -> SplitOptions:
    return split.model_copy(update={"fold": fold})


def main() -> None:
    arguments = parse_arguments("mri.commands.folds", __doc__)
    params, content = collect(arguments.architecture, arguments.experiments)
    target = publish(arguments.name, params.model_dump(mode="json"))
    write_json(content, target / "folds.json")
    score = content["pooled"]["balanced_accuracy"]
    print(f"{target}: balanced accuracy {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")


if __name__ == "__main__":
    guarded(main)
