"""What the stages of a run measured, read back for the pages that show all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mri.files import read_json

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
