"""What the scores of explanations say, in sentences: where maps hit, where they don't, and which network's do best."""

from __future__ import annotations

from typing import Any

from scipy.stats import spearmanr


def findings(summary: dict[str, Any], explanations: dict[str, dict[str, Any]]) -> list[str]:
    """Sentences about metrics/summary.json and {architecture: metrics/explain/ARCH.json}.

    A map that fails the randomisation test is no explanation: it is named, and out of the running for the best.
    """
    scored = _named({arch: found["methods"] for arch, found in explanations.items()})
    if not scored:
        return []
    changed = _named({arch: found.get("faithfulness", {}).get("methods", {}) for arch, found in explanations.items()})
    failed = {name for name, row in changed.items() if not row["randomisation"]["passed"]}
    passing = {name: row for name, row in scored.items() if name not in failed}
    sentences = [_chance(scored), _trivial(scored)]
    if changed:
        sentences += [_road(changed), _randomisation(failed)]
    if passing:
        sentences.append(_best(passing))
    if len(explanations) > 2:
        sentences.append(_agreement(summary, list(explanations), passing))
    return [sentence for sentence in sentences if sentence]


def _named(methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """{"resnet50's gradcam fine": scores}"""
    return {f"{arch}'s {name.replace('_', ' ')}": row for arch, rows in methods.items() for name, row in rows.items()}


def _chance(scored: dict[str, Any]) -> str:
    above = [name for name, row in scored.items() if row["rma"]["over_chance"]["low"] > 0]
    rest = [name for name in scored if name not in above]
    return (
        f"{len(above)} of {len(scored)} pairs of network and method put more of their mass into the tumour than noise "
        f"would (interval of the lead above 0){_list('; these do not', rest)}."
    )


def _trivial(scored: dict[str, Any]) -> str:
    better = [name for name, row in scored.items() if row["rma"]["over_trivial"]["low"] > 0]
    rest = [name for name in scored if name not in better]
    return (
        f"{len(better)} of {len(scored)} put more there than the best map that knows no network (random, centre, "
        f"edges, brightness) does on the same images{_list('; of these that cannot be said', rest)}."
    )


def _best(passing: dict[str, Any]) -> str:
    first, *rest = sorted(passing, key=lambda key: -passing[key]["rma"]["value"])
    next_best = f"; next is {_share(rest[0], passing)}" if rest else ""
    return (
        f"Of the maps that pass, the highest share of mass in the tumour is {_share(first, passing)}{next_best}; "
        f"chance is {100 * passing[first]['rma']['chance']:.1f} %."
    )


def _share(name: str, scored: dict[str, Any]) -> str:
    share = scored[name]["rma"]
    return f"{name}: {100 * share['value']:.1f} % [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def _agreement(summary: dict[str, Any], names: list[str], passing: dict[str, Any]) -> str:
    """How the networks rank by accuracy and by their best map that passes; "" where fewer than three have one."""
    maps = {
        name: max(shares)
        for name in names
        if (shares := [row["rma"]["value"] for key, row in passing.items() if key.startswith(f"{name}'s ")])
    }
    if len(maps) < 3:
        return ""
    accuracy = {name: summary["models"][name]["test"]["macro_f1"]["value"] for name in maps}
    by_accuracy, by_maps = (sorted(maps, key=lambda name: -scores[name]) for scores in (accuracy, maps))
    rank = float(spearmanr([accuracy[name] for name in maps], [maps[name] for name in maps]).statistic)
    return (
        f"By test macro-F1 the networks rank {', '.join(by_accuracy)}; by their best map {', '.join(by_maps)} "
        f"(rank correlation {rank:.1f} over {len(maps)} networks, too few to generalise from)."
    )


def _road(changed: dict[str, Any]) -> str:
    knows = [name for name, row in changed.items() if row["road"]["low"] > 0]
    rest = [name for name in changed if name not in knows]
    return (
        f"Removing pixels in a map's order tells {len(knows)} of {len(changed)} from a random order (ROAD above 0)"
        f"{_list('; not', rest)}."
    )


def _randomisation(failed: set[str]) -> str:
    if not failed:
        return "Every method's maps change when the network's weights are replaced by random ones."
    return (
        "Not to be read as explanations, since they are as like a random network's as two images' maps are alike: "
        f"{', '.join(sorted(failed))}."
    )


def _list(introduction: str, names: list[str]) -> str:
    return f"{introduction}: {', '.join(names)}" if names else ""
