"""Read the results of several DVC experiments, to publish them together: for `mri.commands.folds` and `ablation`."""

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
from mri.base.params import FILE
from mri.base.paths import PREDICTIONS, RESULTS
from mri.commands.publish import check_name


def read(revision: str, arch: str, part: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the parameters of an experiment or commit, and its predictions on one part of the split, sorted by id.

    Raises UserError that names the experiment when one of them is missing.
    """
    predictions = PREDICTIONS / f"{arch}.csv"
    try:
        parameters, table = (dvc.api.read(str(path), rev=revision) for path in (FILE, predictions))
    except Exception as error:  # git's and DVC's own kinds
        raise UserError(f"{revision} has no {predictions}: {' '.join(str(error).split())}") from None
    frame = pd.read_csv(io.StringIO(table), dtype={"id": str, "group": str})
    return yaml.safe_load(parameters), frame[frame["split"] == part].sort_values("id").reset_index(drop=True)


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
