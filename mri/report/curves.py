"""Tables of all networks together, which dvc.yaml plots and the report draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mri.base.files import write_csv
from mri.evaluation.confidence import reliability_curve, risk_coverage_curve

Curve = Callable[[np.ndarray, np.ndarray], pd.DataFrame]


def write(plots: Path, tests: pd.DataFrame, history: pd.DataFrame, rows: dict[str, Any], classes: list[str]) -> None:
    """Write confusion, reliability, risk_coverage, training and score_against_latency as NAME.csv in the folder
    `plots`.

    tests: predictions on test images, and history: epochs, of all networks (column architecture). rows: the networks'
    rows of metrics/details/summary.json.
    """
    confusion = tests.rename(columns={"label": "actual"})[["architecture", "actual", "predicted"]]
    write_csv(confusion, plots / "confusion.csv")
    write_csv(_per_network(tests, classes, reliability_curve), plots / "reliability.csv", digits=5)
    write_csv(_per_network(tests, classes, _risk_coverage), plots / "risk_coverage.csv", digits=5)
    write_csv(history, plots / "training.csv", digits=5)
    write_csv(_score_against_latency(rows), plots / "score_against_latency.csv")


def _per_network(tests: pd.DataFrame, classes: list[str], curve: Curve) -> pd.DataFrame:
    """Return the curves of all networks below one another. curve: of probabilities (N, C) and labels (N,)."""
    tables = []
    for name, table in tests.groupby("architecture", sort=False):
        probabilities = table[[f"p_{label}" for label in classes]].to_numpy()
        tables.append(curve(probabilities, table["label"].map(classes.index).to_numpy()).assign(architecture=name))
    return pd.concat(tables, ignore_index=True)


def _risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    return risk_coverage_curve(probabilities.max(1), probabilities.argmax(1) != labels)


def _score_against_latency(rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {"architecture": name, "latency_ms": row["latency_ms_p50"], "test_macro_f1": row["test"]["macro_f1"]["value"]}
        for name, row in rows.items()
    )
