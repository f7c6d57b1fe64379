"""Summarise the scores of explanations in sentences: which maps hit the tumour, and which network's are best."""

from __future__ import annotations

from typing import Any

from scipy.stats import spearmanr

# Names of scores in sentences.
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
    """Return sentences about the metrics of a summary, of explanations by architecture, and of the consensus.

    A map that fails the randomisation test is no explanation: it is named, and can't be the best.
    """
    scored = _named({arch: metrics["methods"] for arch, metrics in explanations.items()})
    if not scored:
        return []
    faithfulness = {arch: metrics.get("faithfulness", {}) for arch, metrics in explanations.items()}
    changed = _named({arch: metrics.get("methods", {}) for arch, metrics in faithfulness.items()})
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
    """Return scores by name, such as "resnet50's gradcam fine"."""
    return {f"{arch}'s {name.replace('_', ' ')}": row for arch, rows in methods.items() for name, row in rows.items()}


def _chance(scored: dict[str, Any]) -> str:
    above = [name for name, row in scored.items() if row["rma"]["over_chance"]["low"] > 0]
    rest = [name for name in scored if name not in above]
    return (
        f"{len(above)} of {len(scored)} pairs of network and method put more of their mass into the tumour than noise "
        f"does (interval of the lead above 0){_list('; these do not', rest)}."
    )


def _trivial(scored: dict[str, Any]) -> str:
    better = [name for name, row in scored.items() if row["rma"]["over_trivial"]["low"] > 0]
    rest = [name for name in scored if name not in better]
    return (
        f"{len(better)} of {len(scored)} put more there than the best trivial map (random, centre, edges, "
        f"brightness) does on the same images{_list('; this cannot be shown for', rest)}."
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
    """Rank the networks by accuracy and by their best map that passes; "" if fewer than three have one."""
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
    """Name the maps that hit the tumour less often than a random pixel; "" if there are none."""
    missing = [name for name, row in scored.items() if row["pointing_game"]["over_chance"]["high"] < 0]
    return _list("The strongest pixel of these maps lies in the tumour less often than by chance", missing, ".")


def _road(changed: dict[str, Any]) -> str:
    better_than_random = [name for name, row in changed.items() if row["road"]["low"] > 0]
    rest = [name for name in changed if name not in better_than_random]
    better = [name for name, row in changed.items() if row["road"]["over_trivial"]["low"] > 0]
    rivals = sorted({row["road"]["over_trivial"]["best"] for row in changed.values()})
    return (
        f"For {len(better_than_random)} of {len(changed)} maps, removing pixels in their order matters more than in a "
        f"random order (ROAD above 0){_list('; not for', rest)}. {len(better)} of {len(changed)} do better than the "
        f"best trivial order ({' or '.join(rivals)}){_list('', better)}."
    )


def _deletion(changed: dict[str, Any]) -> str:
    """Name the maps that rank important pixels later than chance; "" if there are none."""
    worse = [name for name, row in changed.items() if row["deletion"]["over_chance"]["high"] < 0]
    return _list("Deleting pixels in the order of these maps hurts less than in a random order", worse, ".")


def _networks(by_method: dict[str, list[dict[str, Any]]]) -> str:
    """Name the pairs of networks whose maps differ in quality, method by method."""
    pairs = [(method, pair) for method, rows in by_method.items() for pair in rows if "verdict" in pair]
    leads: dict[str, list[str]] = {}
    for method, pair in pairs:
        first, second = pair["first"], pair["second"]
        if pair["verdict"].endswith(" better"):
            better, worse = (first, second) if pair["verdict"].startswith(f"{first} ") else (second, first)
            leads.setdefault(method.replace("_", " "), []).append(f"{better} over {worse}")
    listed = "; ".join(f"{method}: {', '.join(names)}" for method, names in leads.items())
    return (
        f"On the same images {sum(map(len, leads.values()))} of {len(pairs)} pairs of networks can be told apart by "
        f"the share of one method's mass in the tumour (paired bootstrap, Holm's correction within a method)"
        f"{f' ({listed})' if listed else ''}."
    )


def _consensus(consensus: dict[str, Any]) -> str:
    won = [SCORE_NAMES[score] for score, wins in consensus["beats_best_single"].items() if wins]
    lost = [SCORE_NAMES[score] for score, wins in consensus["beats_best_single"].items() if not wins]
    verdict = f"is better than the best single network's by {', '.join(won)}" if won else "is better in no score"
    rest = f", not by {', '.join(lost)}" if won and lost else "" if won else " than the best single network's"
    return f"The map that combines all networks {verdict}{rest} (interval above 0, also over mere blurring)."


def _randomisation(failed: set[str]) -> str:
    if not failed:
        return "Every method's maps change when the network's weights are replaced by random ones."
    return (
        "Don't read these as explanations, since a random network's maps resemble them as much as two images' maps "
        "resemble each other: "
        f"{', '.join(sorted(failed))}."
    )


def _list(introduction: str, names: list[str], end: str = "") -> str:
    return f"{introduction}: {', '.join(names)}{end}" if names else ""
