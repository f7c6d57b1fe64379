"""Results as Markdown tables, for the README, the tracking store and pull requests."""

from __future__ import annotations

from typing import Any

from mri.base.intervals import Estimate


def networks(summary: dict[str, Any], name: str, leakage: dict[str, Any]) -> str:
    """Every network and every trivial classifier on test images; the winner in bold.

    summary, leakage: metrics/details/summary.json, and `leakage.split` of metrics/details/data.json.
    """
    lines = [
        f"**{name}** (split: {summary['protocol']}; winner: {summary['winner']}; 95 % intervals in brackets)",
        "",
        *([contamination(leakage), ""] if contamination(leakage) else []),
        "| | accuracy | balanced accuracy | macro-F1 | missed tumours | latency, ms | size, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model, row in summary["models"].items():
        test = row["test"]
        scores = [interval(test[score]) for score in ("accuracy", "balanced_accuracy", "macro_f1")]
        bold = "**" if model == summary["winner"] else ""
        costs = [f"{row['latency_ms_p50']:.1f}", f"{row['size_mb']:.0f}"]
        lines.append(f"| {' | '.join([f'{bold}{model}{bold}', *scores, missed(test), *costs])} |")
    for baseline, scores in summary["baselines"].items():
        cells = [interval(scores[score]) for score in ("accuracy", "balanced_accuracy", "macro_f1")] + [missed(scores)]
        lines.append(f"| _{baseline.replace('_', ' ')}_ | {' | '.join(cells)} | | |")
    return "\n".join(lines)


def missed(scores: dict[str, Any]) -> str:
    """The cell of the missed tumours; "" where they aren't known or no class means tumour-free."""
    return interval(scores["missed_tumour_rate"]) if "missed_tumour_rate" in scores else ""


def contamination(leakage: dict[str, Any]) -> str:
    """What must be said beside scores on test images that training has seen copies of; "" where it hasn't.

    leakage: as `mri.data.relations.leakage` counts it; `near` and `patient` are shares of the test images.
    """
    if not leakage["patient"]:
        return ""
    return (
        f"Of these test images {leakage['near']:.0%} have a near-duplicate and {leakage['patient']:.0%} a patient or "
        "source picture in training: for comparison with published work only."
    ).replace("%", " %")


def headline(summary: dict[str, Any], evaluation: dict[str, Any], name: str, leakage: dict[str, Any]) -> str:
    """A published run in a few sentences: the winner, its weakest class, the best trivial classifier, with intervals.

    summary, evaluation, leakage: metrics/details/summary.json, metrics/details/evaluate/WINNER.json, `leakage.split` of
    metrics/details/data.json.
    """
    test, weakest = evaluation["test"], weakest_class(evaluation)
    baselines = summary["baselines"]
    trivial = max(baselines, key=lambda baseline: baselines[baseline]["macro_f1"]["value"])
    return (
        f"**{name}**: {summary['winner']} reaches a macro-F1 of {interval(test['macro_f1'])} % on {test['n']:,} test "
        f"images ({test['groups']} groups, {summary['protocol']} split). Its weakest class is {weakest['name']}: it "
        f"recognises {interval(weakest['recall'])} % of {weakest['support']}. The best trivial classifier "
        f"({trivial.replace('_', ' ')}) reaches {interval(baselines[trivial]['macro_f1'])} %. {contamination(leakage)}"
    ).rstrip()


def weakest_class(evaluation: dict[str, Any]) -> dict[str, Any]:
    """{name, recall, support} of the class that a network recognises least of on test images.

    evaluation: metrics/details/evaluate/ARCH.json. recall: {value, low, high}.
    """
    test = evaluation["test"]
    name = min(test["per_class"], key=lambda label: test["per_class"][label]["recall"])
    low, high = test["intervals"]["per_class"][name]["recall"]
    row = test["per_class"][name]
    return {"name": name, "recall": {"value": row["recall"], "low": low, "high": high}, "support": row["support"]}


def interval(score: Estimate | float) -> str:
    """{value, low, high}, shares, as "93.1 [91.0, 95.2]" in per cent; a share that a run of older code wrote without
    its interval as "93.1"."""
    if not isinstance(score, dict):
        return f"{100 * score:.1f}"
    return f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
