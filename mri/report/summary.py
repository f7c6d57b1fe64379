"""All networks of a run side by side: the table that decides, and the few numbers by which runs are compared."""

from __future__ import annotations

from typing import Any

from mri.base.intervals import value
from mri.evaluation.scores import missed_tumours
from mri.report.tables import best_classifier


def row(evaluation: dict[str, Any], export: dict[str, Any], served: dict[str, Any]) -> dict[str, Any]:
    """Return a network's row of metrics/details/summary.json: scores with intervals by part of the split, and costs.

    evaluation, export: metrics/details/STAGE/ARCH.json. served: the figures of the runtime that counts, of
    metrics/details/benchmark/ARCH.json. missed_tumour_rate is there where a class means "no tumour".
    """
    return {
        **{part: _scores(evaluation[part]) for part in ("val", "test")},
        "latency_ms_p50": served["latency_ms_p50"],
        "size_mb": served["size_mb"],
        "precision": export["served"],
        "gmac": export["gmac"],
        "params": export["params"],
    }


def _scores(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: scores[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")} | missed_tumours(scores)


def headline(row: dict[str, Any], evaluation: dict[str, Any], explanation: dict[str, Any]) -> dict[str, float]:
    """Return the few numbers of a network that DVC tracks as metrics, on test images and without their intervals.

    row: from `row`. evaluation, explanation: metrics/details/STAGE/ARCH.json. What a run doesn't have (masks, a class
    that means "no tumour") is left out. pointing: share of outlined tumours that hold the strongest pixel of
    Grad-CAM. answered: share of images whose set of possible classes, at the widest coverage, is a single class.
    """
    test, sets = row["test"], evaluation["conformal"]
    numbers = {
        "macro_f1": value(test["macro_f1"]),
        "balanced_acc": value(test["balanced_accuracy"]),
        "missed": value(test["missed_tumour_rate"]) if "missed_tumour_rate" in test else None,
        "pointing": _pointing(explanation),
        "ece": evaluation["test"]["ece"],
        "answered": sets[max(sets, key=float)]["single"],
        "latency_ms": row["latency_ms_p50"],
        "mb": row["size_mb"],
    }
    return {name: number for name, number in numbers.items() if number is not None}


def _pointing(explanation: dict[str, Any]) -> float | None:
    scores = explanation.get("methods", {}).get("gradcam", {})
    return scores["pointing_game"]["value"] if "pointing_game" in scores else None


def best_trivial(baselines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the name of the trivial classifier with the highest macro-F1, and its part of what `headline` returns."""
    name, scores = best_classifier(baselines)
    numbers = {"macro_f1": value(scores["macro_f1"]), "balanced_acc": value(scores["balanced_accuracy"])}
    if "missed_tumour_rate" in scores:
        numbers["missed"] = value(scores["missed_tumour_rate"])
    return {"name": name, **numbers}
