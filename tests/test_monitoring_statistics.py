import time
import uuid

import numpy as np
import pytest

from mri.drift import Reference, Sample, fit
from mri.intervals import wilson
from service.monitoring import drift
from service.monitoring.statistics import POINTS, summary
from service.monitoring.store import Store

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'monitoring.db'}")
    yield store
    store.close()


def row(**changes):
    common = {"request_id": str(uuid.uuid4()), "time": 1000.0, "route": "/predict", "status": 200, "ms": 10.0}
    common |= dict.fromkeys(("error", "feedback", "statistics", "projection"))
    return common | {"model": "small", "label": "glioma", "confidence": 0.9, "abstain": False} | changes


def failed(**changes):
    return row(label=None, confidence=None, abstain=None, model=None) | changes


def test_counts_rates_and_latencies_of_known_rows(store):
    store.insert([row(ms=float(i), abstain=i <= 25) for i in range(1, 101)])
    store.insert([failed(status=422, error="unreadable_image"), failed(status=503, error="busy", ms=9999.0)])
    totals = summary(store, 0, 2000)["totals"]
    assert (totals["requests"], totals["predictions"], totals["errors"], totals["refused"]) == (102, 100, 1, 1)
    assert totals["error_rate"] == pytest.approx(2 / 102) and totals["abstention_rate"] == 0.25
    assert totals["latency_ms"] == {"p50": 50.5, "p95": 95.05, "p99": 99.01}
    assert totals["classes"] == {"glioma": 100} and totals["confidence"] == {"p10": 0.9, "p50": 0.9, "p90": 0.9}


def test_accuracy_comes_from_feedback_alone_with_wilsons_interval(store):
    store.insert([row(feedback="glioma")] * 0 + [row(feedback="glioma") for _ in range(8)])
    store.insert([row(feedback="notumor") for _ in range(2)] + [row() for _ in range(50)])
    assert summary(store, 0, 2000)["totals"]["accuracy"] == wilson(8, 10) | {"n": 10}


def test_an_empty_stretch_has_counts_of_zero_and_no_figures(store):
    found = summary(store, 0, 2000)
    assert found["totals"]["requests"] == 0 and found["totals"]["latency_ms"] is None
    assert found["totals"]["error_rate"] is None and found["totals"]["accuracy"] is None
    assert len(found["series"]) == POINTS and found["recent_errors"] == []


def test_the_series_puts_every_row_into_its_stretch(store):
    store.insert([row(time=float(t)) for t in (0, 9, 10, 599, 600)])
    counts = [part["requests"] for part in summary(store, 0, 600)["series"]]
    assert counts[:2] == [2, 1] and counts[-1] == 2 and sum(counts) == 5


def test_a_range_and_a_model_choose_rows(store):
    store.insert([row(time=1.0), row(time=50.0), row(time=50.0, model="other", label="notumor")])
    found = summary(store, 10, 100, "other")
    assert found["totals"]["classes"] == {"notumor": 1} and list(found["models"]) == ["other", "small"]
    assert summary(store, 10, 100)["totals"]["requests"] == 2


def test_confidence_is_counted_in_tenths(store):
    store.insert([row(confidence=value) for value in (0.05, 0.31, 0.35, 0.99, 1.0)])
    assert summary(store, 0, 2000)["confidence"] == [1, 0, 0, 2, 0, 0, 0, 0, 0, 2]


def test_recent_errors_are_the_newest_first_and_name_no_text_of_the_request(store):
    store.insert([failed(status=422, error=f"e{i}", time=float(i)) for i in range(30)])
    errors = summary(store, 0, 2000)["recent_errors"]
    assert [error["error"] for error in errors] == [f"e{i}" for i in range(29, 9, -1)]
    assert set(errors[0]) == {"time", "status", "error", "model"}


def predictions(n: int, seed: int, moved: float = 0.0) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(
        rng.integers(0, 4, n),
        rng.random(n).astype(np.float32),
        rng.standard_normal((n, 4)).astype(np.float32),
        (rng.standard_normal((n, 16)) + moved).astype(np.float32),
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return fit(predictions(200, 0), np.arange(200), np.eye(16), {"model": "small", "data_version": "v"}, splits=399)


def insert(store, sample: Sample, **changes) -> None:
    store.insert(
        row(
            time=time.time(),
            data_version="v",
            label=CLASSES[sample.labels[i]],
            confidence=float(sample.confidence[i]),
            statistics=sample.statistics[i].tolist(),
            projection=sample.projection[i].tolist(),
        )
        | changes
        for i in range(len(sample))
    )


def test_every_full_window_is_compared_once_and_the_rest_waits(store, reference):
    window = predictions(50, 1)
    insert(store, window)
    insert(store, predictions(30, 2), model="other")
    insert(store, predictions(20, 3))
    store.insert([failed(model="small", data_version="v")])
    assert drift.compare_new(store, reference, CLASSES) == 1 and drift.compare_new(store, reference, CLASSES) == 0
    found = drift.summary(store, reference, 0, time.time())
    assert found["waiting"] == 20 and len(found["windows"]) == 1
    assert found["windows"][0]["strengths"] == pytest.approx(reference.strengths(window))


def test_two_strange_windows_in_a_row_are_an_alarm_that_ends_with_the_next_usual_one(store, reference):
    for seed, moved, alarm in ((1, 0.0, []), (2, 2.0, []), (3, 2.0, ["features"]), (4, 0.0, [])):
        insert(store, predictions(50, seed, moved))
        drift.compare_new(store, reference, CLASSES)
        assert drift.summary(store, reference, 0, time.time())["alarms"] == alarm


def test_drift_goes_on_after_all_rows_were_deleted(store, reference):
    insert(store, predictions(50, 1))
    drift.compare_new(store, reference, CLASSES)
    store.forget(time.time() + 1)
    insert(store, predictions(50, 2))
    assert drift.compare_new(store, reference, CLASSES) == 1


def test_without_a_reference_there_is_no_drift(store, tmp_path):
    assert drift.load(tmp_path) is None and drift.summary(store, None, 0, 1) is None
