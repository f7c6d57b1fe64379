"""Read what several DVC experiments left, to publish it together: for `mri.commands.folds` and `ablation`."""

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
    """The parameters of an experiment or commit, and its predictions on the images of one part of the split, by id.

    Raises UserError that names the experiment when it lacks one of them.
    """
    predictions = PREDICTIONS / f"{arch}.csv"
    try:
        parameters, table = (dvc.api.read(str(path), rev=revision) for path in (FILE, predictions))
    except Exception as error:  # git's and DVC's own kinds
        raise UserError(f"{revision} has no {predictions}: {' '.join(str(error).split())}") from None
    frame = pd.read_csv(io.StringIO(table), dtype={"id": str, "group": str})
    return yaml.safe_load(parameters), frame[frame["split"] == part].sort_values("id").reset_index(drop=True)


def arguments(program: str, about: str) -> argparse.Namespace:
    """name, architecture and experiments, from the command line. Raises UserError for a name that names no folder."""
    parser = Parser(program, about)
    parser.add_argument("name", help="the folder under results/, for example figshare")
    parser.add_argument("architecture")
    parser.add_argument("experiments", nargs="+", help="names or commits")
    found = parser.parse_args()
    check_name(found.name)
    return found


def published(name: str, parameters: dict[str, Any]) -> Path:
    """results/NAME, with `parameters` in it as params.yaml."""
    target = RESULTS / name
    target.mkdir(parents=True, exist_ok=True)
    (target / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
    return target
