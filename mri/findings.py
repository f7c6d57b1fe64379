"""What the scores of explanations say, in sentences: where maps hit, where they don't, and which network's do best."""

from __future__ import annotations

from typing import Any

from scipy.stats import spearmanr


def findings(summary: dict[str, Any], explanations: dict[str, dict[str, Any]]) -> list[str]:
    """Sentences about metrics/summary.json and {architecture: metrics/explain/ARCH.json}."""
    scored = _named({arch: found["methods"] for arch, found in explanations.items()})
    if not scored:
        return []
    sentences = [_chance(scored), _trivial(scored), _best(scored)]
    if len(explanations) > 2:
        sentences.append(_agreement(summary, explanations))
    changed = _named({arch: found.get("faithfulness", {}).get("methods", {}) for arch, found in explanations.items()})
    return [*sentences, *([_road(changed), _randomisation(changed)] if changed else [])]


def _named(methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """{"resnet50's gradcam fine": scores}"""
    return {f"{arch}'s {name.replace('_', ' ')}": row for arch, rows in methods.items() for name, row in rows.items()}


def _chance(scored: dict[str, Any]) -> str:
    above = [name for name, row in scored.items() if row["rma"]["low"] > row["rma"]["chance"]]
    rest = [name for name in scored if name not in above]
    return (
        f"{len(above)} of {len(scored)} pairs of network and method put more of their mass into the tumour than noise "
        f"would (interval above chance){_list('; these do not', rest)}."
    )


def _trivial(scored: dict[str, Any]) -> str:
    better = [name for name, row in scored.items() if (row["rma"]["skill"] or 0) > 0]
    rest = [name for name in scored if name not in better]
    return (
        f"{len(better)} of {len(scored)} score higher than the best map that knows no network (random, centre, edges, "
        f"brightness){_list('; these do not', rest)}."
    )


def _best(scored: dict[str, Any]) -> str:
    name = max(scored, key=lambda key: scored[key]["rma"]["value"])
    share = scored[name]["rma"]
    return (
        f"The highest share of mass in the tumour is {name}: {100 * share['value']:.1f} % "
        f"[{100 * share['low']:.1f}, {100 * share['high']:.1f}]; chance is {100 * share['chance']:.1f} %."
    )


def _agreement(summary: dict[str, Any], explanations: dict[str, dict[str, Any]]) -> str:
    names = [name for name, found in explanations.items() if found["methods"]]
    accuracy = {name: summary["models"][name]["test"]["macro_f1"]["value"] for name in names}
    maps = {name: max(row["rma"]["value"] for row in explanations[name]["methods"].values()) for name in names}
    by_accuracy, by_maps = (sorted(names, key=lambda name: -scores[name]) for scores in (accuracy, maps))
    rank = float(spearmanr([accuracy[name] for name in names], [maps[name] for name in names]).statistic)
    return (
        f"By test macro-F1 the networks rank {', '.join(by_accuracy)}; by their best map {', '.join(by_maps)} "
        f"(rank correlation {rank:.1f} over {len(names)} networks, too few to generalise from)."
    )


def _road(changed: dict[str, Any]) -> str:
    knows = [name for name, row in changed.items() if row["road"]["low"] > 0]
    rest = [name for name in changed if name not in knows]
    return (
        f"Removing pixels in a map's order tells {len(knows)} of {len(changed)} from a random order (ROAD above 0)"
        f"{_list('; not', rest)}."
    )


def _randomisation(changed: dict[str, Any]) -> str:
    failed = [name for name, row in changed.items() if not row["randomisation"]["passed"]]
    if not failed:
        return "Every method's maps change when the network's weights are replaced by random ones."
    return f"Not to be read as explanations, since a random network draws much the same: {', '.join(failed)}."


def _list(introduction: str, names: list[str]) -> str:
    return f"{introduction}: {', '.join(names)}" if names else ""
