"""What the stages of a run measured, read back for the pages that show all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mri.base import params
from mri.base.errors import UserError
from mri.base.files import read_json
from mri.base.params import Params
from mri.base.paths import METRICS, PREDICTIONS

OF_THE_RUN = ("data", "consensus", "drift")
OF_A_NETWORK = ("train", "evaluate", "robustness", "explain", "benchmark")


def collect(metrics: Path) -> dict[str, Any]:
    """The metrics of every stage, {} for what isn't there; those of networks by the names that summary.json has."""
    summary = read_json(metrics / "summary.json")
    return {
        "summary": summary,
        **{stage: _read(metrics / f"{stage}.json") for stage in OF_THE_RUN},
        **{
            stage: {name: found for name in summary["models"] if (found := _read(metrics / stage / f"{name}.json"))}
            for stage in OF_A_NETWORK
        },
    }


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def load() -> tuple[Params, dict[str, Any]]:
    """The parameters and metrics of the run in the working folder. Raises UserError that says what to run first."""
    run = params.load()
    for path in (METRICS / "summary.json", *(PREDICTIONS / f"{name}.csv" for name in run.model.architectures)):
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc repro` first (`make repro` does)")
    content = collect(METRICS)
    if list(content["summary"]["models"]) != list(run.model.architectures):
        raise UserError(f"{METRICS / 'summary.json'} is of other networks: run `dvc repro` first (`make repro` does)")
    return run, content
