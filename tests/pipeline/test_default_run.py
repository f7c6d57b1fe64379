"""Requirements on the committed run of the default pipeline (phantoms, quick)."""

from functools import reduce

import yaml

from mri.base.files import read_json


def test_the_committed_run_is_the_default(root):
    summary = read_json(root / "metrics/details/summary.json")
    assert summary["dataset"] == "phantom"
    assert list(summary["models"]) == ["resnet50", "resnet101", "efficientnet_b0", "efficientnet_b1"]
    locked = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    assert {f"train@{name}" for name in summary["models"]} <= set(locked)


def test_every_stage_of_the_committed_run_had_todays_parameters(root):
    locked = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    params = yaml.safe_load((root / "params.yaml").read_text())
    others = [
        f"{stage}: {name}"
        for stage, entry in locked.items()
        for name, value in entry.get("params", {}).get("params.yaml", {}).items()
        if reduce(lambda part, key: part.get(key, {}), name.split("."), params) != value
    ]
    assert others == []


def test_a_network_learns_the_phantoms_and_trivial_classifiers_do_not(root):
    summary = read_json(root / "metrics/details/summary.json")
    assert summary["models"][summary["winner"]]["test"]["macro_f1"]["value"] >= 0.85
    assert summary["baselines"]["nearest_neighbour"]["accuracy"]["value"] < 0.60
    shortcut = summary["baselines"]["shortcut"]["accuracy"]
    assert shortcut["low"] <= 0.25 <= shortcut["high"], "size, mean and standard deviation must say nothing"


def test_the_split_does_not_leak(root):
    leakage = read_json(root / "metrics/details/data.json")["leakage"]
    for part in ("split", "validation"):
        assert [leakage[part][kind] for kind in ("exact", "near", "patient")] == [0, 0, 0]


def test_the_winner_is_the_fastest_of_those_that_are_not_distinguishable(root):
    summary = read_json(root / "metrics/details/summary.json")
    best = {name: row for name, row in summary["decided_by"].items() if row["behind_the_best"]["low"] <= 0}
    assert summary["winner"] == min(best, key=lambda name: best[name]["latency_ms_p50"])
