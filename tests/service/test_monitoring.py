"""The whole service in one process: what is recorded of requests, and the answers to hostile ones."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.monitoring import middleware, statistics
from service.monitoring.store import Store
from tests import packages


@pytest.fixture
def serving(predictor, tmp_path):
    """A client and the store that it fills."""
    with TestClient(packages.application(predictor, tmp_path)) as client:
        yield client, stored(tmp_path)


def stored(folder) -> Store:
    return Store(f"sqlite:///{folder / 'monitoring.db'}")


def picture(side=60, kind="PNG", mode="L", seed=0, **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def rows(store, count, *columns):
    """Wait for that many rows and return them."""
    until = time.monotonic() + 60
    while len(recorded := store.select(*columns)) < count and time.monotonic() < until:
        time.sleep(0.05)
    return [tuple(row) for row in recorded]


def test_every_answer_is_one_row_with_the_answers_own_values(serving):
    client, store = serving
    answers = [client.post("/predict", files={"image": picture(seed=i)}).json() for i in range(3)]
    columns = ("request_id", "status", "label", "probabilities", "set", "width", "statistics", "model_version")
    recorded = rows(store, 3, *columns)
    assert [row[0] for row in recorded] == [answer["request_id"] for answer in answers]
    for row, answer in zip(recorded, answers, strict=True):
        assert row[1] == 200 and row[2] == answer["label"] and row[4] == answer["set"] and row[5] == 60
        assert row[3] == pytest.approx(answer["probabilities"], abs=1e-6) and len(row[6]) == 4
        assert row[7] == answer["model_version"]


def test_the_time_of_every_part_of_an_answer_is_recorded_drawing_included(serving):
    client, store = serving
    answer = client.post("/predict", files={"image": picture()}, data={"explain": "gradcam"}).json()
    ((recorded,),) = rows(store, 1, "milliseconds")
    assert recorded["draw"] > 0 and recorded == pytest.approx(answer["milliseconds"], abs=1e-3)


def test_a_refused_request_is_a_row_with_its_error(serving):
    client, store = serving
    answer = client.post("/predict", files={"image": b"no image"})
    refused = client.post("/predict", json={})
    assert (answer.status_code, refused.status_code) == (422, 415)
    assert rows(store, 2, "request_id", "status", "error", "label") == [
        (answer.json()["request_id"], 422, "unreadable_image", None),
        (refused.json()["request_id"], 415, "unsupported_media_type", None),
    ]


def test_failed_requests_count_for_the_network_that_was_asked(serving):
    client, store = serving
    bad = {"image": b"no image"}
    for model in ("other", "", "winner", "not packaged"):
        client.post("/predict", files=bad, data={"model": model})
    client.post("/predict_batch", files=[("images", b"no image"), ("images", picture())], data={"model": "other"})
    client.post("/predict", files=bad, data={"model": "other", "explain": "no such method"})
    assert [row[0] for row in rows(store, 7, "model")] == ["other", "winner", "winner", None, "other", "other", "other"]
    summary = client.get("/api/monitoring", params={"model": "other"}).json()
    assert summary["totals"]["requests"] == 4 and summary["totals"]["error_rate"] == 0.75
    assert [error["error"] for error in summary["recent_errors"]] == ["bad_request", *["unreadable_image"] * 2]
    assert summary["models"]["winner"]["error_rate"] == 1 and set(summary["models"]) == {"winner", "other"}


def test_a_batch_is_one_row_per_image_and_a_bad_one_takes_no_feedback(serving):
    client, store = serving
    files = [("images", picture()), ("images", b"no image"), ("images", picture(seed=1))]
    answer = client.post("/predict_batch", files=files).json()
    name = answer["request_id"]
    assert [row[:2] for row in rows(store, 3, "request_id", "status")] == [
        (f"{name}/0", 200),
        (f"{name}/1", 422),
        (f"{name}/2", 200),
    ]
    assert client.post("/feedback", json={"request_id": f"{name}/1", "label": "glioma"}).status_code == 404


def test_the_request_id_of_each_prediction_of_a_batch_takes_feedback(serving):
    client, store = serving
    files = [("images", picture()), ("images", b"no image"), ("images", picture(seed=1))]
    first, bad, last = client.post("/predict_batch", files=files).json()["predictions"]
    assert "request_id" not in bad
    for item, label in ((first, "glioma"), (last, "pituitary")):
        answer = client.post("/feedback", json={"request_id": item["request_id"], "label": label})
        assert answer.status_code == 204
    assert rows(store, 3, "feedback") == [("glioma",), (None,), ("pituitary",)]


def test_drift_counts_an_image_once_however_often_it_is_asked_about(predictor):
    reference = SimpleNamespace(
        about={"model": predictor.package.default}, project=lambda pooled: np.ones((len(pooled), 16))
    )
    monitor = SimpleNamespace(predictor=predictor, reference=reference)

    def projection(**state) -> list[float]:
        scope = {"type": "http", "path": "/predict", "state": {"predictions": [predictor.predict(picture())], **state}}
        ((row),) = middleware.rows(scope, 200, 1.0, monitor)
        return row["projection"]

    assert projection() == projection(again=False) == [1.0] * 16
    assert projection(again=True) == []


def test_those_who_are_refused_are_recorded_and_an_allowed_website_can_read_why(predictor, tmp_path):
    app = packages.application(predictor, tmp_path, api_key="k" * 20, allowed_origins=("https://example.org",))
    with TestClient(app) as client:
        answer = client.post("/predict", files={"image": picture()}, headers={"origin": "https://example.org"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "https://example.org")
        assert answer.headers["x-content-type-options"] == "nosniff"
        other = {"origin": "https://example.com", "sec-fetch-site": "cross-site"}
        assert client.post("/predict", files={"image": picture()}, headers=other).status_code == 403
        assert rows(stored(tmp_path), 2, "status", "error") == [(401, "unauthorised"), (403, "other_website")]


def test_feedback_that_waits_for_the_store_holds_up_no_prediction(predictor, tmp_path, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(Store, "feedback", lambda *_: go.wait(60))
    with TestClient(packages.application(predictor, tmp_path)) as client, ThreadPoolExecutor(60) as pool:
        feedback = {"request_id": "a", "label": packages.CLASSES[0]}
        waiting = [pool.submit(client.post, "/feedback", json=feedback) for _ in range(50)]
        try:
            prediction = pool.submit(client.post, "/predict", files={"image": picture()})
            assert prediction.result(30).status_code == 200
        finally:
            go.set()
        assert {one.result(60).status_code for one in waiting} == {204}


def test_nothing_of_the_image_or_of_who_asked_is_in_the_store(serving, tmp_path):
    client, store = serving
    marked = picture(pnginfo=_text("Name", "MARKER-tag"))
    client.post(
        "/predict",
        files={"image": ("MARKER-name.png", marked, "image/png")},
        headers={"user-agent": "MARKER-agent", "x-forwarded-for": "203.0.113.77", "referer": "http://MARKER-site/"},
    )
    client.post("/predict", files={"image": ("MARKER-b.png", b"MARKER-content")}, data={"model": "MARKER-model"})
    assert len(rows(store, 2, "id")) == 2
    content = b"".join(path.read_bytes() for path in tmp_path.glob("monitoring.db*"))
    assert b"MARKER" not in content and b"203.0.113.77" not in content
    pixels = np.asarray(Image.open(io.BytesIO(marked)))
    assert pixels[30].tobytes() not in content and marked[60:120] not in content


def _text(key, value):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(key, value)
    return info


def test_a_prediction_does_not_need_the_store(predictor, tmp_path):
    client = TestClient(packages.application(predictor, tmp_path / "no folder"))
    assert client.post("/predict", files={"image": picture()}).status_code == 200
    answer = client.get("/api/monitoring")
    assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")


def test_a_recorded_request_keeps_nothing_of_its_images(predictor, tmp_path):
    """BentoML keeps requests long after they were answered."""
    app = packages.application(predictor, tmp_path)
    kept = []

    async def holding(scope, receive, send):
        kept.append(scope)
        await app(scope, receive, send)

    with TestClient(holding) as client:
        client.post("/predict", files={"image": picture()})
        client.post("/predict_batch", files=[("images", picture()), ("images", b"no image")])
    states = [scope["state"] for scope in kept if scope["type"] == "http"]
    assert [set(state) for state in states] == [{"request_id", "model"}] * 2


def test_figures_count_what_was_asked(serving):
    client, store = serving
    for i in range(4):
        client.post("/predict", files={"image": picture(seed=i)})
    client.post("/predict", files={"image": b""})
    rows(store, 5, "id")
    summary = client.get("/api/monitoring", params={"hours": 1}).json()
    assert summary["totals"]["requests"] == 5 and summary["totals"]["predictions"] == 4
    assert summary["totals"]["refused"] == 1 and summary["lost"] == 0
    assert client.get("/api/monitoring", params={"hours": 0}).status_code == 400


def test_a_summary_is_made_by_one_at_a_time_and_given_again_for_some_seconds(serving, monkeypatch):
    client, _ = serving
    at_once, most, summaries = 0, 0, []

    def slow(*arguments):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.1)
        summaries.append(figures := summary(*arguments))
        at_once -= 1
        return figures

    summary = statistics.summary
    monkeypatch.setattr(statistics, "summary", slow)
    monkeypatch.setattr("service.monitoring.monitor.CACHE_SECONDS", 2)
    monkeypatch.setattr("service.monitoring.monitor.CACHE_FACTOR", 0)
    with ThreadPoolExecutor(6) as pool:
        asked = [1, 1, 1, 24, 24, 24]
        answers = list(pool.map(lambda hours: client.get("/api/monitoring", params={"hours": hours}).json(), asked))
    assert most == 1 and len(summaries) == 2
    assert [round(one["until"] - one["since"]) for one in answers] == [3600 * hours for hours in asked]
    time.sleep(2.1)
    client.get("/api/monitoring", params={"hours": 1})
    assert len(summaries) == 3


def test_unknown_paths_and_methods_have_the_stable_form(serving):
    client, _ = serving
    asked = [("GET", "/nothing"), ("POST", "/predict/"), ("GET", "/models/"), ("GET", "/ui/nothing")]
    refused = [("GET", "/predict"), ("PUT", "/models"), ("POST", "/monitoring"), ("POST", "/")]
    for expected, ways in ((404, asked), (405, refused)):
        for method, path in ways:
            answer = client.request(method, path, follow_redirects=False)
            assert answer.status_code == expected and set(answer.json()) == {"error", "detail", "request_id"}
            assert answer.json()["error"] == {404: "not_found", 405: "method_not_allowed"}[expected]
            assert "/docs" in answer.json()["detail"]


def test_the_dashboard_and_its_files_are_served_with_a_strict_policy(serving):
    client, _ = serving
    for path in ("/monitoring", "/monitoring/monitoring.js", "/monitoring/charts.js", "/monitoring/monitoring.css"):
        answer = client.get(path)
        assert answer.status_code == 200 and "script-src 'self'" in answer.headers["content-security-policy"]
    assert "<script>" not in client.get("/monitoring").text and "style=" not in client.get("/monitoring").text
