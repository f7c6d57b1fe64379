"""Tables of all networks together, which dvc.yaml plots and the report draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from mri.base.files import write_csv
from mri.evaluation import screening
from mri.evaluation.confidence import reliability_curve, risk_coverage_curve
from mri.evaluation.scores import TUMOUR_FREE
from mri.evaluation.subgroups import patients

Curve = Callable[[np.ndarray, np.ndarray], pd.DataFrame]
EVERYONE = "follow up everyone"  # beside the networks' decision curves


def write(plots: Path, tests: pd.DataFrame, history: pd.DataFrame, rows: dict[str, Any], classes: list[str]) -> None:
    """Write confusion, patients, reliability, risk_coverage, training, score_against_latency and, where images with and
    without tumours are told apart, roc and decision as NAME.csv in the folder `plots`.

    tests: predictions on test images, and history: epochs, of all networks (column architecture). rows: the networks'
    rows of metrics/details/summary.json.
    """
    confusion = tests.rename(columns={"label": "actual"})[["architecture", "actual", "predicted"]]
    write_csv(confusion, plots / "confusion.csv")
    write_csv(_per_network(tests, classes, reliability_curve), plots / "reliability.csv", digits=5)
    write_csv(_per_network(tests, classes, _risk_coverage), plots / "risk_coverage.csv", digits=5)
    by_network = dict(list(tests.groupby("architecture", sort=False)))
    by_patient = [patients(table, classes).assign(architecture=name) for name, table in by_network.items()]
    write_csv(pd.concat(by_patient, ignore_index=True), plots / "patients.csv", digits=5)
    if TUMOUR_FREE in classes and 0 < (tests["label"] == TUMOUR_FREE).mean() < 1:
        write_csv(_roc(by_network), plots / "roc.csv", digits=5)
        write_csv(_decision(by_network), plots / "decision.csv", digits=5)
    write_csv(history, plots / "training.csv", digits=5)
    write_csv(_score_against_latency(rows), plots / "score_against_latency.csv")


def _per_network(tests: pd.DataFrame, classes: list[str], curve: Curve) -> pd.DataFrame:
    """Return the curves of all networks below one another. curve: of probabilities (N, C) and labels (N,)."""
    tables = []
    for name, table in tests.groupby("architecture", sort=False):
        probabilities = table[[f"p_{label}" for label in classes]].to_numpy()
        tables.append(curve(probabilities, table["label"].map(classes.index).to_numpy()).assign(architecture=name))
    return pd.concat(tables, ignore_index=True)


def _roc(by_network: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return sensitivity by false-positive rate of "tumour or not", for every network."""
    curves = []
    for name, table in by_network.items():
        false, true, _ = roc_curve(screening.has_tumour(table), screening.tumour_score(table))
        curves.append(pd.DataFrame({"false_positive_rate": false, "sensitivity": true, "architecture": name}))
    return pd.concat(curves, ignore_index=True)


def _decision(by_network: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the net benefit by threshold of every network and of following up everyone."""
    tumour = screening.has_tumour(next(iter(by_network.values())))
    scores = {name: screening.tumour_score(table) for name, table in by_network.items()}
    curves = [
        pd.DataFrame(
            {
                "threshold": screening.THRESHOLDS,
                "net_benefit": screening.net_benefit(of_network, tumour),
                "architecture": name,
            }
        )
        for name, of_network in {**scores, EVERYONE: np.ones(len(tumour))}.items()
    ]
    return pd.concat(curves, ignore_index=True)


def _risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    return risk_coverage_curve(probabilities.max(1), probabilities.argmax(1) != labels)


def _score_against_latency(rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {"architecture": name, "latency_ms": row["latency_ms_p50"], "test_macro_f1": row["test"]["macro_f1"]["value"]}
        for name, row in rows.items()
    )
