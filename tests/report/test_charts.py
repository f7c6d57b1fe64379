import numpy as np
import pandas as pd
import pytest

from mri.report import charts


def estimate(value, spread=0.02):
    return {"value": value, "low": value - spread, "high": value + spread}


MODELS = {
    "a": {"latency_ms_p50": 2.0, "size_mb": 100.0, "test": {"macro_f1": estimate(0.7)}},
    "b": {"latency_ms_p50": 1.0, "size_mb": 16.0, "test": {"macro_f1": estimate(0.9)}},
    "c": {"latency_ms_p50": 3.0, "size_mb": 25.0, "test": {"macro_f1": estimate(0.95)}},
}


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({"a": (1, 0.9)}, ["a"]),
        ({"a": (2, 0.7), "b": (1, 0.9), "c": (3, 0.95)}, ["b", "c"]),
        ({"a": (1, 0.9), "b": (1, 0.8), "c": (2, 0.9)}, ["a"]),
        ({"a": (1, 0.9), "b": (1, 0.9)}, ["a", "b"]),
    ],
)
def test_the_front_is_what_no_other_beats_in_both(points, front):
    assert charts.pareto_front(points) == front


def test_a_point_stands_at_its_latency_and_score_and_its_area_is_the_size():
    axis = charts.score_against_latency(MODELS).axes[0]
    assert [points.get_offsets().tolist() for points in axis.collections] == [[[2, 70]], [[1, 90]], [[3, 95]]]
    assert [points.get_sizes()[0] / 4 for points in axis.collections] == [100, 16, 25]
    front, *intervals = [np.asarray(line.get_xydata()) for line in axis.lines]
    assert front.tolist() == [[1, 90], [3, 95]]
    assert intervals[0] == pytest.approx(np.array([[2, 68], [2, 72]]))


def test_a_network_has_one_colour_in_all_charts():
    history = pd.DataFrame({"architecture": ["a", "a", "b"], "epoch": [1, 2, 1], "val_macro_f1": [0.1, 0.2, 0.3]})
    lines = charts.by_epoch(history, "val_macro_f1", "t").axes[0].lines
    assert [line.get_ydata().tolist() for line in lines] == [[0.1, 0.2], [0.3]]
    curves = {name: pd.DataFrame({"corruption": ["x"], "severity": [1], "accuracy": [0.5]}) for name in ("a", "b")}
    small = charts.robustness(curves, "x").axes[0].lines
    assert small[0].get_ydata().tolist() == [50]
    assert [line.get_color() for line in lines] == [line.get_color() for line in small] == charts.PALETTE[:2]


def test_a_confusion_matrix_writes_counts_and_colours_shares_of_a_row():
    axis = charts.confusion([[3, 1], [0, 0]], ["x", "y"], "a").axes[0]
    assert [text.get_text() for text in axis.texts] == ["3", "1", "0", "0"]
    assert axis.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]


def test_curves_of_confidence_are_in_per_cent():
    bins = pd.DataFrame({"architecture": "a", "confidence": [0.5, 0.9], "accuracy": [0.4, 1.0], "low": 0.3, "high": 1})
    diagonal, curve = charts.reliability(bins).axes[0].lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [100, 100]]
    assert curve.get_xydata().tolist() == [[50, 40], [90, 100]]
    risk = pd.DataFrame({"architecture": "a", "coverage": [0.5, 1.0], "risk": [0, 0.25]})
    assert charts.abstaining(risk).axes[0].lines[0].get_xydata().tolist() == [[50, 0], [100, 25]]


def test_a_roc_curve_goes_through_every_threshold_of_a_class():
    table = pd.DataFrame({"label": ["x", "x", "y", "y"], "p_x": [0.9, 0.4, 0.6, 0.1], "p_y": [0.1, 0.6, 0.4, 0.9]})
    _, x, y = charts.roc(table, ["x", "y"], "a").axes[0].lines
    assert x.get_xydata().tolist() == [[0, 0], [0, 50], [50, 50], [50, 100], [100, 100]]
    assert y.get_xydata().tolist() == x.get_xydata().tolist()
