"""The report: one HTML file with everything that a run measured, readable without a network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2

from mri.files import read_json
from mri.tables import interval

TEMPLATES = Path(__file__).parent / "templates"
PICTURES = {".png": "image/png", ".jpg": "image/jpeg"}


def collect(metrics: Path, plots: Path, names: list[str]) -> dict[str, Any]:
    """Everything that the template shows: the metrics of every stage and the pictures as data URIs."""
    return {
        "summary": read_json(metrics / "summary.json"),
        "data": read_json(metrics / "data.json"),
        "consensus": read_json(metrics / "consensus.json"),
        **{
            stage: {name: read_json(metrics / stage / f"{name}.json") for name in names}
            for stage in ("train", "evaluate", "robustness", "explain", "benchmark")
        },
        "pictures": pictures(plots),
    }


def pictures(folder: Path) -> dict[str, str]:
    """Every picture below `folder` as a data URI, by its path without suffix ("explain/resnet50")."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in PICTURES)
    return {path.relative_to(folder).with_suffix("").as_posix(): _data_uri(path) for path in found}


def render(content: dict[str, Any], template: str = "report.html") -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "interval": interval, "p_value": p_value}
    return environment.get_template(template).render(content)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _data_uri(path: Path) -> str:
    return f"data:{PICTURES[path.suffix]};base64," + base64.b64encode(path.read_bytes()).decode()
