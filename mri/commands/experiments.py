"""Read the results of several DVC experiments, to publish them together: for folds, seeds and ablation."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
import yaml

from mri.base.cli import Parser
from mri.base.errors import UserError
from mri.base.params import FILE, Params, parse
from mri.base.paths import PREDICTIONS, RESULTS
from mri.commands.publish import check_name

TEXT = ("id", "group", "series", "source")  # columns that may look like numbers


def read(revision: str, arch: str, part: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the parameters of an experiment or commit, and its predictions on one part of the split, sorted by id.

    Raises UserError that names the experiment when one of them is missing.
    """
    predictions = PREDICTIONS / f"{arch}.csv"
    try:
        parameters, table = (dvc.api.read(str(path), rev=revision) for path in (FILE, predictions))
    except Exception as error:  # git's and DVC's own kinds
        raise UserError(f"{revision} has no {predictions}: {' '.join(str(error).split())}") from None
    frame = pd.read_csv(io.StringIO(table), dtype=dict.fromkeys(TEXT, str), keep_default_na=False)
    return yaml.safe_load(parameters), frame[frame["split"] == part].sort_values("id").reset_index(drop=True)


def read_all(revisions: list[str], arch: str, part: str) -> tuple[list[Params], list[pd.DataFrame]]:
    """Return the parameters of several experiments, and their predictions on one part of the split, as `read` does."""
    results = [read(revision, arch, part) for revision in revisions]
    every = [parse(values, f"params.yaml of {name}") for name, (values, _) in zip(revisions, results, strict=True)]
    return every, [table for _, table in results]


def check_same(every: list[Params], section: str, option: str) -> None:
    """Raise UserError if the experiments differ in more than params.SECTION.OPTION."""
    first = getattr(every[0], section)
    for params in every:
        options = getattr(params, section).model_copy(update={option: getattr(first, option)})
        if params.model_copy(update={section: options}) != every[0]:
            raise UserError(f"the experiments differ in more than {section}.{option}: choose those of one run")


def parse_arguments(program: str, about: str) -> argparse.Namespace:
    """Return name, architecture and experiments. Raises UserError for a name that can't be a folder's."""
    parser = Parser(program, about)
    parser.add_argument("name", help="the folder under results/, for example figshare")
    parser.add_argument("architecture")
    parser.add_argument("experiments", nargs="+", help="names or commits")
    arguments = parser.parse_args()
    check_name(arguments.name)
    return arguments


def publish(name: str, parameters: dict[str, Any]) -> Path:
    """Write `parameters` to results/NAME/params.yaml, and return the folder."""
    target = RESULTS / name
    target.mkdir(parents=True, exist_ok=True)
    (target / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
    return target
