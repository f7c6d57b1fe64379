"""The numbers that tracking and DagsHub show, by their names."""

import pytest

from mri.report import headlines
from mri.tracking.run import flatten


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.125, "high": value + 0.125}


ROW = {name: estimate(0.5) for name in ("accuracy", "balanced_accuracy", "macro_f1")}
COST = {"latency_ms_p50": 4.0, "size_mb": 16.0, "gmac": 1.0, "params": 5}


def test_missed_tumours_have_the_ends_of_their_interval_wherever_numbers_are_flattened():
    row = {"test": ROW | {"missed_tumour_rate": estimate(0.25)}, **COST}
    shown = flatten(headlines.selection(row), "/")
    assert {name: shown[f"test/missed_tumour_rate{name}"] for name in ("", "_low", "_high")} == {
        "": 0.25,
        "_low": 0.125,
        "_high": 0.375,
    }
    assert all(isinstance(number, int | float) for number in shown.values())


def test_an_evaluation_has_the_same_names_as_the_selection_of_its_network():
    bare = {"missed_tumour_rate": 0.25, "intervals": {"missed_tumour_rate": [0.125, 0.375]}}
    metrics = {"test": ROW | bare | {"per_class": {"glioma": {"recall": 0.5}}}, "temperature": 1.0}
    selected = headlines.selection({"test": ROW | {"missed_tumour_rate": estimate(0.25)}, **COST})
    assert headlines.evaluation(metrics)["test"] == selected["test"]


@pytest.mark.parametrize("score", ["missed_tumour_rate", "missed_tumour_rate_low"])
def test_a_dataset_without_a_tumour_free_class_has_no_missed_tumours(score):
    assert score not in headlines.selection({"test": ROW, **COST})["test"]
