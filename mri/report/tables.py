"""Format scores for tables and pages, and pick those that a summary names."""

from __future__ import annotations

from typing import Any

from mri.base.intervals import Estimate


def missed(scores: dict[str, Any]) -> str:
    """Format the share of missed tumours; "" where it isn't known or no class means tumour-free."""
    return interval(scores["missed_tumour_rate"]) if "missed_tumour_rate" in scores else ""


def contamination(leakage: dict[str, Any]) -> str:
    """Return the warning for scores on test images that have copies in training; "" when there are none.

    leakage: as `mri.data.relations.leakage` counts it; `near` and `patient` are shares of the test images.
    """
    if not leakage["patient"]:
        return ""
    return (
        f"Of these test images {leakage['near']:.0%} have a near-duplicate and {leakage['patient']:.0%} a patient or "
        "source picture in training: for comparison with published work only."
    ).replace("%", " %")


def best_classifier(baselines: dict[str, Any]) -> tuple[str, Any]:
    """Return the name and scores of the trivial classifier with the highest macro-F1.

    baselines: {name: scores}, of metrics/details/summary.json.
    """
    return max(baselines.items(), key=lambda item: item[1]["macro_f1"]["value"])


def weakest_class(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return {name, recall, support} of the class with the lowest recall on test images.

    evaluation: metrics/details/evaluate/ARCH.json. recall: {value, low, high}.
    """
    test = evaluation["test"]
    name = min(test["per_class"], key=lambda label: test["per_class"][label]["recall"])
    low, high = test["intervals"]["per_class"][name]["recall"]
    row = test["per_class"][name]
    return {"name": name, "recall": {"value": row["recall"], "low": low, "high": high}, "support": row["support"]}


def interval(score: Estimate | float) -> str:
    """Format shares {value, low, high} in per cent: "93.1 [91.0, 95.2]".

    A plain share, which runs of older code wrote, becomes "93.1".
    """
    if not isinstance(score, dict):
        return f"{100 * score:.1f}"
    return f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
