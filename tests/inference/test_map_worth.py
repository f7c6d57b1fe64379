from mri.inference.map_worth import MapWorth, map_worth, worth_on

EXPLAINED = {
    "n": 118,
    "methods": {
        "gradcam": {"pointing_game": {"value": 0.62, "low": 0.5, "high": 0.7, "chance": 0.02}, "empty": 0.0},
        "gradient": {"pointing_game": {"value": 0.2, "low": 0.1, "high": 0.3, "chance": 0.02}, "empty": 0.0},
    },
    "faithfulness": {
        "methods": {
            "gradcam": {"randomisation": {"verdict": "failed"}},
            "gradient": {"randomisation": {"verdict": "undecided"}},
        }
    },
}


def test_a_card_tells_of_every_scored_method_how_often_it_hits_and_what_the_randomisation_test_says():
    card = {"maps": map_worth(EXPLAINED)}
    assert worth_on(card, "gradcam") == MapWorth(hit_rate=0.62, chance=0.02, n=118, passed_randomisation=False)
    assert worth_on(card, "gradient") == MapWorth(0.2, 0.02, 118, None)
    assert worth_on(card, "consensus") is None


def test_nothing_is_claimed_where_no_tumour_was_outlined_or_the_package_is_older():
    assert map_worth({"n": 0, "methods": {}, "baselines": {}}) == {}
    assert worth_on({"temperature": 1.5}, "gradcam") is None
