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


def worst(scores: dict[str, Any]) -> str:
    """Format the recall of the worst group; "" where no group is large enough."""
    return interval(scores["worst_group"]) if "worst_group" in scores else ""


def weakest(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return {kind, name, recall, support}: what is recognised least of the test images.

    The worst group of a class and a series or source ("glioma of series B"), or where none is large enough the weakest
    class. evaluation: metrics/details/evaluate/ARCH.json. recall: {value, low, high}. support: images.
    """
    test = evaluation["test"]
    if "worst_group" in test:
        cell = test["worst_group"]
        name = f"{cell['class']} of {cell['by']} {cell['name']}"
        return {"kind": "worst group", "name": name, "recall": cell, "support": cell["n"]}
    name = min(test["per_class"], key=lambda label: test["per_class"][label]["recall"])
    low, high = test["intervals"]["per_class"][name]["recall"]
    row = test["per_class"][name]
    recall = {"value": row["recall"], "low": low, "high": high}
    return {"kind": "weakest class", "name": name, "recall": recall, "support": row["support"]}


def verdict(check: dict[str, Any]) -> str:
    """Return a randomisation check's verdict: "passed", "failed" or "undecided".

    Runs of older code wrote only whether it was passed, without an interval.
    """
    return check["verdict"] if "verdict" in check else "passed" if check["passed"] else "failed"


def interval(score: Estimate | float) -> str:
    """Format shares {value, low, high} in per cent: "93.1 [91.0, 95.2]".

    A plain share, which runs of older code wrote, becomes "93.1".
    """
    if not isinstance(score, dict):
        return f"{100 * score:.1f}"
    return f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
