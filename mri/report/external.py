"""Prepare what the stage external measured for the report's section on images from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mri.base.files import read_json


def section(metrics: Path) -> dict[str, Any]:
    """Return the content of metrics/details/external.json; {} where there were no images from elsewhere.

    metrics: the run's folder of details. Each network's parts are those of `mri.evaluation.external.summarise`.
    """
    path = metrics / "external.json"
    content = read_json(path) if path.is_file() else {}
    return content if content.get("images") else {}
