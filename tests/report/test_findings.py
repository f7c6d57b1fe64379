from mri.report.findings import findings


def method(value, low, over_trivial, road=(0.1, 0.05), passed=True):
    """Return a method's scores. over_trivial: lower end of the lead over the best trivial map."""
    leads = {"over_chance": {"low": low - 0.02}, "over_trivial": {"low": over_trivial}}
    return (
        {
            "rma": {"value": value, "low": low, "high": value + 0.05, "chance": 0.02, **leads},
            "pointing_game": {"over_chance": {"high": value - 0.05}},
        },
        {
            "road": {"value": road[0], "low": road[1], "over_trivial": {"best": "intensity", "low": over_trivial}},
            "deletion": {"over_chance": {"high": road[1]}},
            "randomisation": {"passed": passed},
        },
    )


def network(**methods):
    return {
        "methods": {name: pair[0] for name, pair in methods.items()},
        "faithfulness": {"methods": {name: pair[1] for name, pair in methods.items()}},
    }


def summary(**scores):
    return {"models": {name: {"test": {"macro_f1": {"value": value}}} for name, value in scores.items()}}


EXPLAINED = {
    "a": network(gradcam=method(0.03, 0.01, -0.1), gradient=method(0.2, 0.1, 0.1)),
    "b": network(gradcam=method(0.3, 0.2, 0.2), gradient=method(0.1, 0.05, 0.0, road=(0.0, -0.1))),
    "c": network(gradcam=method(0.1, 0.05, 0.05), gradient=method(0.1, 0.05, 0.05, passed=False)),
}


def test_the_sentences_name_what_is_no_better_than_chance_or_than_trivial_maps():
    chance, trivial, *_ = findings(summary(a=0.7, b=0.9, c=0.5), EXPLAINED)
    assert chance.startswith("5 of 6 ") and chance.endswith("these do not: a's gradcam.")
    assert trivial.startswith("4 of 6 ") and trivial.endswith("cannot be shown for: a's gradcam, b's gradient.")


def test_the_best_map_and_the_order_of_the_networks_are_named():
    *_, best, agreement = findings(summary(a=0.7, b=0.9, c=0.5), EXPLAINED)
    assert "b's gradcam: 30.0 % [20.0, 35.0]; next is a's gradient: 20.0 % [10.0, 25.0] (their in" in best
    assert "intervals overlap); chance is 2.0 %" in best
    assert "rank b, a, c; by their best map b, a, c (rank correlation 1.0 over 3" in agreement


def test_a_map_that_a_random_network_draws_too_is_not_the_best_however_well_it_hits():
    explained = EXPLAINED | {"d": network(gradcam=method(0.9, 0.8, 0.5, passed=False), gradient=method(0.03, 0.02, 0))}
    *_, best, agreement = findings(summary(a=0.7, b=0.9, c=0.5, d=0.8), explained)
    assert "b's gradcam: 30.0 %" in best and "d's gradcam" not in best
    assert "by their best map b, a, c, d" in agreement


def test_networks_without_a_map_that_passes_are_in_no_order():
    only = {name: network(gradient=method(0.1, 0.05, 0.05, passed=False)) for name in "abc"}
    assert not [
        text for text in findings(summary(a=0.7, b=0.9, c=0.5), only) if "rank" in text or "Of the maps" in text
    ]


def test_maps_that_are_not_true_are_named():
    _, _, beside, road, deletion, randomisation, *_ = findings(summary(a=0.7, b=0.9, c=0.5), EXPLAINED)
    assert beside.endswith("less often than by chance: a's gradcam.")
    assert road.startswith("For 5 of 6 ") and "(ROAD above 0); not for: b's gradient." in road
    assert "4 of 6 do better than the best trivial order (intensity): a's gradient, b's gradcam, " in road
    assert deletion.endswith("hurts less than in a random order: b's gradient.")
    assert randomisation.endswith("resemble each other: c's gradient.")
    (only,) = (text for text in findings(summary(a=0.7), {"a": EXPLAINED["a"]}) if "random ones" in text)
    assert only.startswith("Every method's maps change")


def test_without_scores_there_are_no_findings():
    assert findings(summary(a=0.7), {"a": {"methods": {}}}) == []


def test_the_verdict_on_the_consensus_is_told_score_by_score():
    def verdict(**wins):
        consensus = {"n": 9, "beats_best_single": wins, "networks_by_rma": {}}
        return findings(summary(a=0.7), {"a": EXPLAINED["a"]}, consensus)[-1]

    assert "is better than the best single network's by IoU, not by share of mass, ROAD (" in verdict(
        rma=False, iou_otsu=True, road=False
    )
    assert "is better in no score than the best single network's (" in verdict(rma=False, road=False)
    assert "is better than the best single network's by ROAD (" in verdict(road=True)
    assert findings(summary(a=0.7), {"a": EXPLAINED["a"]}, {"n": 0}) == findings(summary(a=0.7), {"a": EXPLAINED["a"]})


def test_networks_whose_maps_can_be_told_apart_are_named_method_by_method():
    def pair(first, second, verdict):
        return {"first": first, "second": second, "n": 5, "verdict": verdict}

    pairs = {
        "gradcam": [pair("a", "b", "not distinguishable"), pair("a", "ab", "ab better")],
        "guided_backprop": [pair("a", "b", "a better"), {"first": "a", "second": "c", "n": 0}],
    }
    consensus = {"n": 9, "beats_best_single": {"rma": False}, "networks_by_rma": pairs}
    *_, pairs_told_apart, _ = findings(summary(a=0.7), {"a": EXPLAINED["a"]}, consensus)
    assert "2 of 3 pairs of networks can be told apart" in pairs_told_apart
    assert pairs_told_apart.endswith("(gradcam: ab over a; guided backprop: a over b).")
