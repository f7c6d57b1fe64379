"""What the scores of explanations say, in sentences: where maps hit, where they don't, and which network's do best."""

from __future__ import annotations

from typing import Any

from scipy.stats import spearmanr

# How sentences call the scores of the consensus.
SCORE_NAMES = {
    "pointing_game": "pointing game",
    "rma": "share of mass",
    "rra": "strongest pixels",
    "auroc": "AUROC",
    "iou_otsu": "IoU",
    "road": "ROAD",
}


def findings(
    summary: dict[str, Any], explanations: dict[str, dict[str, Any]], consensus: dict[str, Any] | None = None
) -> list[str]:
    """Sentences about metrics/details/summary.json, {architecture: metrics/details/explain/ARCH.json} and
    metrics/details/consensus.json.

    A map that fails the randomisation test is no explanation: it is named, and out of the running for the best.
    """
    scored = _named({arch: found["methods"] for arch, found in explanations.items()})
    if not scored:
        return []
    changed = _named({arch: found.get("faithfulness", {}).get("methods", {}) for arch, found in explanations.items()})
    failed = {name for name, row in changed.items() if not row["randomisation"]["passed"]}
    passing = {name: row for name, row in scored.items() if name not in failed}
    sentences = [_chance(scored), _trivial(scored), _elsewhere(scored)]
    if changed:
        sentences += [_road(changed), _deletion(changed), _randomisation(failed)]
    if passing:
        sentences.append(_best(passing))
    if len(explanations) > 2:
        sentences.append(_agreement(summary, list(explanations), passing))
    if consensus and consensus.get("n"):
        sentences += [_networks(consensus["networks_by_rma"]), _consensus(consensus)]
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
    if rest and passing[rest[0]]["rma"]["high"] > passing[first]["rma"]["low"]:
        next_best += " (their intervals overlap)"
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


def _elsewhere(scored: dict[str, Any]) -> str:
    """Which maps point beside the tumour more often than a pixel drawn by lot; "" where none does."""
    beside = [name for name, row in scored.items() if row["pointing_game"]["over_chance"]["high"] < 0]
    return f"The strongest pixel of these lies in the tumour less often than chance: {', '.join(beside)}." * bool(
        beside
    )


def _road(changed: dict[str, Any]) -> str:
    knows = [name for name, row in changed.items() if row["road"]["low"] > 0]
    rest = [name for name in changed if name not in knows]
    better = [name for name, row in changed.items() if row["road"]["over_trivial"]["low"] > 0]
    rivals = sorted({row["road"]["over_trivial"]["best"] for row in changed.values()})
    return (
        f"Removing pixels in a map's order tells {len(knows)} of {len(changed)} from a random order (ROAD above 0)"
        f"{_list('; not', rest)}. {len(better)} of {len(changed)} do better than the best order that knows no network "
        f"({' or '.join(rivals)}){_list('', better)}."
    )


def _deletion(changed: dict[str, Any]) -> str:
    """Which maps remove what matters later than chance would; "" where none does."""
    worse = [name for name, row in changed.items() if row["deletion"]["over_chance"]["high"] < 0]
    return f"Deleting pixels in these maps' order hurts less than at random: {', '.join(worse)}." if worse else ""


def _networks(by_method: dict[str, list[dict[str, Any]]]) -> str:
    """Which network's maps are better than which other's, method by method."""
    pairs = [(method, pair) for method, rows in by_method.items() for pair in rows if "verdict" in pair]
    told: dict[str, list[str]] = {}
    for method, pair in pairs:
        first, second = pair["first"], pair["second"]
        if pair["verdict"].endswith(" better"):
            better, worse = (first, second) if pair["verdict"].startswith(f"{first} ") else (second, first)
            told.setdefault(method.replace("_", " "), []).append(f"{better} over {worse}")
    listed = "; ".join(f"{method}: {', '.join(leads)}" for method, leads in told.items())
    return (
        f"On the same images {sum(map(len, told.values()))} of {len(pairs)} pairs of networks can be told apart by the "
        f"share of one method's mass in the tumour (paired bootstrap, Holm's correction within a method)"
        f"{f' ({listed})' if listed else ''}."
    )


def _consensus(consensus: dict[str, Any]) -> str:
    won = [SCORE_NAMES[score] for score, wins in consensus["beats_best_single"].items() if wins]
    lost = [SCORE_NAMES[score] for score, wins in consensus["beats_best_single"].items() if not wins]
    verdict = f"is better than the best single network's by {', '.join(won)}" if won else "is in no score better"
    rest = f", not by {', '.join(lost)}" if won and lost else "" if won else " than the best single network's"
    return f"The map that combines all networks {verdict}{rest} (interval above 0, over mere blur too)."


def _randomisation(failed: set[str]) -> str:
    if not failed:
        return "Every method's maps change when the network's weights are replaced by random ones."
    return (
        "Not to be read as explanations, since they are as like a random network's as two images' maps are alike: "
        f"{', '.join(sorted(failed))}."
    )


def _list(introduction: str, names: list[str]) -> str:
    return f"{introduction}: {', '.join(names)}" if names else ""
