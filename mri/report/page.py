"""Write the report: one HTML file with everything that a run measured, readable offline.

Sections for what a run lacks (masks, a second network, the metrics of a stage) are left out.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mri.base.params import Params
from mri.report import charts, rendering
from mri.report.findings import findings
from mri.report.metrics import collect
from mri.report.sheets import save
from mri.report.tables import weakest_class

PICTURES = {".png": "image/png", ".jpg": "image/jpeg"}
NO_VIEWER: dict[str, Any] = {"images": []}


def write(params: Params, metrics: Path, plots: Path, out: Path, viewer: dict[str, Any] = NO_VIEWER) -> None:
    """Write out/report.html, and its charts as files below out/charts.

    metrics, plots: the run's folders. viewer: the content that `mri.report.viewer` returns.
    """
    content = collect(metrics)
    figures = draw(content, plots, params.data.classes)
    for name, figure in figures.items():
        save(figure, out / f"charts/{name}.png", dpi=110)
    chart_uris = pictures(out)
    winner = content["evaluate"].get(content["summary"]["winner"])
    content |= {
        "params": params.model_dump(mode="json"),
        "synthetic": params.data.source == "phantom",
        "weakest": weakest_class(winner) if winner else None,
        "colours": charts.colours(list(content["summary"]["models"])),
        "findings": findings(content["summary"], content["explain"], content["consensus"]),
        "viewer": viewer,
        "pictures": pictures(plots) | {f"charts/{name}": chart_uris[f"charts/{name}"] for name in figures},
    }
    (out / "report.html").write_text(rendering.render(content, "report.html"), encoding="utf-8")


def draw(content: dict[str, Any], plots: Path, classes: list[str]) -> dict[str, Figure]:
    """Draw the charts for which there are metrics (see `collect`) or tables in `plots`, by their names on the page."""
    figures = {"score_against_latency": charts.score_against_latency(content["summary"]["models"])}
    if (history := _table(plots / "summary/training.csv")) is not None:
        figures["training/loss"] = charts.by_epoch(history, "train_loss", "training loss")
        figures["training/score"] = charts.by_epoch(history, "val_macro_f1", "validation macro-F1")
    if (reliability := _table(plots / "summary/reliability.csv")) is not None:
        figures["confidence/reliability"] = charts.reliability(reliability)
    if (risk := _table(plots / "summary/risk_coverage.csv")) is not None:
        figures["confidence/abstaining"] = charts.abstaining(risk)
    for name, scores in content["evaluate"].items():
        figures[f"confusion/{name}"] = charts.confusion(scores["test"]["confusion"], classes, name)
    files = {name: plots / f"robustness/{name}.csv" for name in content["robustness"]}
    tables = {name: pd.read_csv(path) for name, path in files.items() if path.is_file()}
    for corruption in next(iter(tables.values()))["corruption"].unique() if tables else ():
        figures[f"robustness/{corruption}"] = charts.robustness(tables, corruption)
    return figures


def _table(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path) if path.is_file() else None


def pictures(folder: Path) -> dict[str, str]:
    """Return every picture below `folder` as a data URI, by path without suffix ("sheets/explain/resnet50")."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in PICTURES)
    return {path.relative_to(folder).with_suffix("").as_posix(): _data_uri(path) for path in files}


def _data_uri(path: Path) -> str:
    return f"data:{PICTURES[path.suffix]};base64," + base64.b64encode(path.read_bytes()).decode()
