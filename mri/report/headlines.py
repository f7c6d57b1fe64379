"""The few numbers of each stage that are worth comparing between runs, by the names that tracking shows them under."""

from __future__ import annotations

from typing import Any

from mri.base.intervals import value
from mri.evaluation.scores import missed_tumours

PARTS = ("val", "test")
INTERVALS = ("macro_f1", "missed_tumour_rate")
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "missed_tumour_rate", "nll", "brier", "ece")
COSTS = ("latency_ms_p50", "latency_ms_p95", "throughput_img_s", "peak_rss_mb", "size_mb")


def evaluation(metrics: dict[str, Any]) -> dict[str, Any]:
    """metrics/evaluate/ARCH.json: scores by part, some with their intervals, recalls of test images by class."""
    parts = {part: _scores(metrics[part] | missed_tumours(metrics[part])) for part in PARTS if part in metrics}
    recalls = {label: row["recall"] for label, row in metrics["test"]["per_class"].items()}
    return {**parts, "test_recall": recalls, "calibration": {"temperature": metrics["temperature"]}}


def _scores(scores: dict[str, Any]) -> dict[str, float]:
    found = {name: value(scores[name]) for name in SCORES if name in scores}
    ends = {f"{name}_{end}": scores[name][end] for name in INTERVALS if name in scores for end in ("low", "high")}
    return found | ends


def explanation(metrics: dict[str, Any]) -> dict[str, Any]:
    """metrics/explain/ARCH.json: per method the share of mass in the tumour, hits, and what removing pixels tells."""
    found = {
        method: {name: row[name]["value"] for name in ("rma", "pointing_game")}
        for method, row in metrics["methods"].items()
    }
    for method, row in metrics.get("faithfulness", {}).get("methods", {}).items():
        found.setdefault(method, {})["road"] = row["road"]["value"]
    return {"explain": {f"{method}_{name}": value for method, row in found.items() for name, value in row.items()}}


def robustness(metrics: dict[str, Any]) -> dict[str, Any]:
    """metrics/robustness/ARCH.json: accuracy by corruption, and how well the gate knows strange images."""
    gate = metrics["gate"]
    known = {f"gate_auroc_{distance}": gate[distance]["all"]["auroc"]["value"] for distance in ("near", "far")}
    return {"robustness": {"accuracy": metrics["accuracy"], **metrics["accuracy_when"], **known}}


def costs(metrics: dict[str, Any], runtime: str) -> dict[str, Any]:
    """metrics/benchmark/ARCH.json: what the served runtime costs."""
    measured = metrics["runtimes"][runtime]
    return {"cost": {**{name: measured[name] for name in COSTS}, "gmac": metrics["gmac"], "params": metrics["params"]}}


def selection(row: dict[str, Any]) -> dict[str, Any]:
    """A network's row of metrics/summary.json, under the names that evaluation and costs use."""
    parts = {part: _scores(row[part]) for part in PARTS if part in row}
    cost = {name: row[name] for name in ("latency_ms_p50", "size_mb", "gmac", "params")}
    return {**parts, "cost": cost}
