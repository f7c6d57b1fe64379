"""Read the metrics of a run for the pages that show all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mri.base import params
from mri.base.errors import UserError
from mri.base.files import read_json
from mri.base.params import Params
from mri.base.paths import DETAILS, PREDICTIONS

OF_THE_RUN = ("data", "consensus", "drift")
OF_A_NETWORK = ("train", "evaluate", "robustness", "explain", "export", "benchmark")


def collect(metrics: Path) -> dict[str, Any]:
    """Return the metrics of every stage, {} for what isn't there; those of networks by the names that summary.json has.

    metrics: metrics/details of a run, or results/NAME/metrics. What the stages export and benchmark wrote of a network
    stands together under "benchmark".
    """
    summary = read_json(metrics / "summary.json")
    of_networks = {
        stage: {name: _read(metrics / stage / f"{name}.json") for name in summary["models"]} for stage in OF_A_NETWORK
    }
    export = of_networks.pop("export")
    of_networks["benchmark"] = {name: export[name] | costs for name, costs in of_networks["benchmark"].items() if costs}
    return {
        "summary": summary,
        **{stage: _read(metrics / f"{stage}.json") for stage in OF_THE_RUN},
        **{stage: {name: values for name, values in rows.items() if values} for stage, rows in of_networks.items()},
    }


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def load() -> tuple[Params, dict[str, Any]]:
    """Return parameters and metrics of the run in the working folder. Raises UserError if a file is missing."""
    run = params.load()
    for path in (DETAILS / "summary.json", *(PREDICTIONS / f"{name}.csv" for name in run.model.architectures)):
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc repro` first (`make repro` does)")
    content = collect(DETAILS)
    if list(content["summary"]["models"]) != list(run.model.architectures):
        raise UserError(
            f"{DETAILS / 'summary.json'} belongs to other networks: run `dvc repro` first (`make repro` does)"
        )
    return run, content
