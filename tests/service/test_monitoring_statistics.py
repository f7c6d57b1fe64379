import shutil
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql

from mri.base.intervals import wilson
from mri.inference.drift import Observations, Reference, fit
from mri.inference.package import REFERENCE, Package
from service.monitoring import drift, statistics
from service.monitoring.background import Background
from service.monitoring.statistics import POINTS, summary
from service.monitoring.store import Store
from service.settings import Settings

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
    figures = summary(store, 0, 2000)
    assert figures["totals"]["requests"] == 0 and figures["totals"]["latency_ms"] is None
    assert figures["totals"]["error_rate"] is None and figures["totals"]["accuracy"] is None
    assert len(figures["series"]) == POINTS and figures["recent_errors"] == []


def test_the_series_puts_every_row_into_its_stretch(store):
    store.insert([row(time=float(t)) for t in (0, 9, 10, 599, 600)])
    counts = [part["requests"] for part in summary(store, 0, 600)["series"]]
    assert counts[:2] == [2, 1] and counts[-1] == 2 and sum(counts) == 5


def test_a_sample_of_many_rows_gives_the_quantiles_of_all_of_them_and_takes_no_side(store, monkeypatch):
    monkeypatch.setattr(statistics, "SAMPLE", 6000)
    latencies = np.random.default_rng(0).lognormal(3, 0.5, 40_000)
    models = ("a", "b", "c", "d")  # in turn, as by a client that compares them
    store.insert([row(time=i / 10, ms=float(ms), model=models[i % 4]) for i, ms in enumerate(latencies)])
    store.insert([row(time=4000.0, ms=5000.0, model="rare")])
    read = []
    sample = statistics.sample
    monkeypatch.setattr(statistics, "sample", lambda *args: read.extend(sample(*args)) or read)
    figures = summary(store, 0, 4000)
    assert 5000 < len(read) < 7000 and len({(one.stretch, one.model) for one in read}) == 4 * POINTS + 1
    assert figures["totals"]["requests"] == 40_001 and figures["models"]["rare"]["latency_ms"]["p50"] == 5000.0
    for i, name in enumerate(models):
        assert figures["models"][name]["latency_ms"]["p50"] == pytest.approx(np.median(latencies[i::4]), rel=0.05)
    p50, p95 = np.percentile(latencies, (50, 95))
    assert figures["totals"]["latency_ms"]["p50"] == pytest.approx(p50, rel=0.03)
    assert figures["totals"]["latency_ms"]["p95"] == pytest.approx(p95, rel=0.05)
    assert all(part["latency_ms"]["p50"] == pytest.approx(p50, rel=0.25) for part in figures["series"])


def test_quantiles_are_those_of_a_busy_and_a_quiet_stretch_together(store, monkeypatch):
    monkeypatch.setattr(statistics, "SAMPLE", 400)
    store.insert([row(time=1.0 + i / 100, ms=10.0) for i in range(2000)])
    store.insert([row(time=599.0, ms=50.0) for _ in range(100)])
    assert summary(store, 0, 600)["totals"]["latency_ms"] == {"p50": 10.0, "p95": 10.0, "p99": 50.0}


@pytest.mark.parametrize("dialect", [postgresql, mysql, oracle, mssql])
def test_what_is_counted_can_be_asked_of_other_databases(dialect):
    asked = []

    def execute(query):
        asked.append(str(query.compile(dialect=dialect.dialect())).lower())
        return SimpleNamespace(all=list)

    connection = SimpleNamespace(execute=execute)
    statistics.counts(connection, [], [1.0, 2.0])
    counted = [SimpleNamespace(stretch=1, model="small", label="glioma", number=3)]
    assert statistics.sample(connection, [], counted, [1.0, 2.0]) == []
    # How these round, or whether they are there at all, is another matter in every database.
    assert len(asked) == 2 and not any(word in query for query in asked for word in ("cast(", "floor(", "round("))


def test_a_range_and_a_model_choose_rows(store):
    store.insert([row(time=1.0), row(time=50.0), row(time=50.0, model="other", label="notumor")])
    figures = summary(store, 10, 100, "other")
    assert figures["totals"]["classes"] == {"notumor": 1} and list(figures["models"]) == ["other", "small"]
    assert summary(store, 10, 100)["totals"]["requests"] == 2


def test_confidence_is_counted_in_tenths(store):
    store.insert([row(confidence=value) for value in (0.05, 0.31, 0.35, 0.99, 1.0)])
    assert summary(store, 0, 2000)["confidence"] == [1, 0, 0, 2, 0, 0, 0, 0, 0, 2]


def test_recent_errors_are_the_newest_first_and_name_no_text_of_the_request(store):
    store.insert([failed(status=422, error=f"e{i}", time=float(i)) for i in range(30)])
    errors = summary(store, 0, 2000)["recent_errors"]
    assert [error["error"] for error in errors] == [f"e{i}" for i in range(29, 9, -1)]
    assert set(errors[0]) == {"time", "status", "error", "model"}


def predictions(n: int, seed: int, moved: float = 0.0) -> Observations:
    rng = np.random.default_rng(seed)
    return Observations(
        rng.integers(0, 4, n),
        rng.random(n).astype(np.float32),
        rng.standard_normal((n, 4)).astype(np.float32),
        (rng.standard_normal((n, 16)) + moved).astype(np.float32),
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    about = {"model": "small", "data_version": "v", "model_version": "first"}
    return fit(predictions(200, 0), np.arange(200), np.eye(16), about, splits=399)


def insert(store, sample: Observations, **changes) -> None:
    store.insert(
        row(
            time=time.time(),
            data_version="v",
            model_version="first",
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
    store.insert([failed(model="small", data_version="v", model_version="first")])
    assert drift.compare_new(store, reference, CLASSES) == 1 and drift.compare_new(store, reference, CLASSES) == 0
    state = drift.summary(store, reference, 0, time.time())
    assert state["waiting"] == 20 and len(state["windows"]) == 1
    assert state["windows"][0]["strengths"] == pytest.approx(reference.strengths(window))


def test_two_strange_windows_in_a_row_are_an_alarm_that_ends_with_the_next_usual_one(store, reference):
    for seed, moved, alarm in ((1, 0.0, []), (2, 2.0, []), (3, 2.0, ["features"]), (4, 0.0, [])):
        insert(store, predictions(50, seed, moved))
        drift.compare_new(store, reference, CLASSES)
        assert drift.summary(store, reference, 0, time.time())["alarms"] == alarm


def test_drift_goes_on_after_all_rows_were_deleted(store, reference):
    insert(store, predictions(50, 1))
    drift.compare_new(store, reference, CLASSES)
    store.delete_before(time.time() + 1)
    insert(store, predictions(50, 2))
    assert drift.compare_new(store, reference, CLASSES) == 1


def test_predictions_without_a_projection_of_the_references_length_are_in_no_window(store, reference):
    for projection in ([], [0.5] * 15, None):
        insert(store, predictions(50, 1), projection=projection)
    window = predictions(50, 2)
    insert(store, window)
    assert drift.compare_new(store, reference, CLASSES) == 1
    state = drift.summary(store, reference, 0, time.time())
    assert state["waiting"] == 0 and state["windows"][0]["strengths"] == pytest.approx(reference.strengths(window))


def test_two_trainings_on_the_same_data_never_share_a_window(store, reference):
    second = replace(reference, about=reference.about | {"model_version": "second"})
    insert(store, predictions(30, 1))
    insert(store, predictions(40, 2), model_version="second")
    assert drift.compare_new(store, reference, CLASSES) == drift.compare_new(store, second, CLASSES) == 0
    insert(store, predictions(20, 3))
    assert drift.compare_new(store, reference, CLASSES) == 1 and drift.compare_new(store, second, CLASSES) == 0
    assert len(drift.summary(store, reference, 0, time.time())["windows"]) == 1
    state = drift.summary(store, second, 0, time.time())
    assert (state["waiting"], state["windows"], state["alarms"]) == (40, [], [])


def test_one_failing_job_is_said_once_and_the_others_go_on(store, reference, monkeypatch, caplog):
    store.insert([row(time=time.time() - 2 * 86_400), row(time=time.time())])
    insert(store, predictions(50, 1), label="a class of another package")
    rolled_up = []
    monkeypatch.setattr("service.monitoring.background.rollup.waiting", lambda store: rolled_up.append(1))
    settings = Settings(monitoring_url=store.url, monitoring_days=1, rollup_seconds=1e-9)
    background = Background(store, settings, reference, CLASSES)
    background._tick()
    background._tick()
    assert len(store.select("id")) == 51 and len(rolled_up) == 2
    (record,) = [line for line in caplog.records if line.levelname == "ERROR"]
    assert record.getMessage().startswith("drift: failed") and record.exc_info[0] is ValueError


def test_a_tick_compares_what_can_be_compared_although_the_winner_has_changed(store, reference):
    insert(store, predictions(60, 1), projection=[])
    insert(store, predictions(50, 2))
    Background(store, Settings(monitoring_url=store.url, rollup_seconds=0), reference, CLASSES)._tick()
    assert len(drift.summary(store, reference, 0, time.time())["windows"]) == 1


def test_a_reference_is_about_the_packaged_training_and_one_of_another_network_is_not_used(store, package, tmp_path):
    assert drift.load(Package(package)) is None and drift.summary(store, None, 0, 1) is None
    copy = Path(shutil.copytree(package, tmp_path / "copy"))
    for model in ("winner", "gone"):
        about = {"model": model, "data_version": "v"}
        fit(predictions(40, 0), np.arange(40), np.eye(16), about, splits=99).save(copy / REFERENCE)
        loaded, packaged = drift.load(Package(copy)), Package(copy)
        if model == "winner":
            assert loaded.about == about | {"model_version": packaged.version("winner")}
        else:
            assert loaded is None
