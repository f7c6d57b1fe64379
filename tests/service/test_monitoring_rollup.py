import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid

import pytest
import sqlalchemy as sa

from service.monitoring import rollup
from service.monitoring.background import Background
from service.monitoring.store import Store, requests, rollups
from service.settings import Settings


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'monitoring.db'}")
    yield store
    store.close()


def add(store, count, **changes):
    common = {"time": time.time(), "route": "/predict", "status": 200, "ms": 10.0, "model": "small", "label": "glioma"}
    common |= {"confidence": 0.9, "abstain": False} | changes
    store.insert([common | {"request_id": str(uuid.uuid4())} for _ in range(count)])


def kept(store) -> list[dict]:
    with store.begin() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(rollups).order_by(rollups.c.id))]


def test_every_row_is_in_one_roll_up_and_no_row_makes_none(store):
    add(store, 3)
    assert rollup.claim(store) == 1 and rollup.claim(store) == 0
    add(store, 2, model="other")
    assert rollup.claim(store) == 1
    assert [(one["id"], one["metrics"]["all/requests"]) for one in kept(store)] == [(1, 3.0), (2, 2.0)]
    assert kept(store)[1]["metrics"]["other/classes.glioma"] == 2.0


def test_a_long_backlog_becomes_several_roll_ups(store, monkeypatch):
    monkeypatch.setattr(rollup, "LARGEST", 4)
    add(store, 10)
    assert rollup.claim(store) == 3
    assert [one["metrics"]["all/requests"] for one in kept(store)] == [4.0, 4.0, 2.0]


def test_two_that_roll_up_at_once_share_the_rows(store):
    add(store, 500)
    threads = [threading.Thread(target=rollup.claim, args=(Store(store.url),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one["metrics"]["all/requests"] for one in kept(store)) == 500
    assert store.select("id", where=[requests.c.rollup.is_(None)]) == []


def accuracies(store) -> list[tuple]:
    return [
        tuple(one["metrics"].get(f"{of}/accuracy.{what}") for of in ("all", "small") for what in ("value", "n"))
        for one in kept(store)
    ]


def test_feedback_is_counted_once_in_the_roll_up_of_the_time_it_was_given(store):
    add(store, 3)
    add(store, 1, model="other")
    a, b, c, d = (row.request_id for row in store.select("request_id"))
    store.feedback(a, "glioma")
    assert rollup.claim(store) == 1 and not waiting_to_be_claimed(store)
    store.feedback(b, "pituitary")
    store.feedback(c, "glioma")
    assert waiting_to_be_claimed(store)
    store.feedback(a, "notumor")  # a correction
    add(store, 2)
    assert rollup.claim(store) == 1 and rollup.claim(store) == 0
    store.feedback(d, "glioma")
    assert rollup.claim(store) == 1 and rollup.claim(store) == 0
    assert accuracies(store) == [(1.0, 1, 1.0, 1), (0.5, 2, 0.5, 2), (1.0, 1, None, None)]
    assert [one["metrics"].get("all/requests") for one in kept(store)] == [4, 2, None]
    assert kept(store)[2]["time"] == pytest.approx(time.time(), abs=60)


def waiting_to_be_claimed(store) -> bool:
    with store.begin() as connection:
        connection.execute(sa.update(rollups).values(sent=1.0))
    return rollup.waiting(store)


def test_a_store_that_cannot_be_used_is_said_in_one_line(tmp_path):
    (tmp_path / "broken.db").write_text("no database " * 100)
    for name in ("broken.db", "no/such/folder.db"):
        environment = {**os.environ, "MRI_MONITORING_URL": f"sqlite:///{tmp_path / name}"}
        command = [sys.executable, "-m", "service.monitoring"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("error: the monitoring store can't be used: ") and done.stderr.count("\n") == 1


def free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def tracking_server(folder, port):
    """A real `mlflow server` on loopback, whose database outlives it."""
    database = f"sqlite:///{folder / 'tracking.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        [*command, "--backend-store-uri", database, "--default-artifact-root", str(folder)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            assert server.poll() is None, "mlflow server ended"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def history(uri) -> list[tuple[int, float]]:
    """Return steps and values of all/requests in the one run of the monitoring experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(rollup.EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    return sorted((one.step, one.value) for one in client.get_metric_history(run.info.run_id, "all/requests"))


@pytest.mark.slow
def test_roll_ups_resume_without_gap_or_duplicate_after_the_tracking_server_was_away(store, tmp_path):
    port = free_port()
    with tracking_server(tmp_path, port) as uri:
        add(store, 3)
        rollup.claim(store)
        assert rollup.send(store, uri) == 1 and history(uri) == [(1, 3.0)]
    add(store, 4)
    rollup.claim(store)
    with pytest.raises(Exception, match=r"(?i)connection|max retries"):
        rollup.send(store, uri)
    add(store, 5)
    rollup.claim(store)
    with tracking_server(tmp_path, port) as uri:
        # The answer to what was sent last may have got lost with the server: it is sent again.
        with store.begin() as connection:
            connection.execute(sa.update(rollups).where(rollups.c.id == 1).values(sent=None))
        assert rollup.send(store, uri) == 3 and rollup.send(store, uri) == 0
        assert history(uri) == [(1, 3.0), (2, 4.0), (3, 5.0)]


@pytest.mark.slow
def test_only_one_of_several_workers_rolls_up_and_another_follows_when_it_ends(store, tmp_path, monkeypatch):
    monkeypatch.setattr("service.monitoring.background.TICK_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"sqlite:///{tmp_path / 'tracking.db'}")
    settings = Settings(monitoring_url=store.url, rollup_seconds=1)
    workers = [Background(Store(store.url), settings, None, []) for _ in range(3)]
    for worker in workers:
        worker.start()
    for expected in (1, 2):
        add(store, 7)
        deadline = time.monotonic() + 120
        while [bool(one["sent"]) for one in kept(store)] != [True] * expected:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        (holder,) = [worker for worker in workers if store.lease("background", worker._id, 60)]
        holder.stop()
        holder.join(10)
        workers.remove(holder)
    assert history(uri) == [(1, 7.0), (2, 7.0)]
    for worker in workers:
        worker.stop()
        worker.join(10)


@pytest.mark.slow
def test_a_tracking_server_that_never_answers_is_said_in_one_line(store):
    with contextlib.closing(socket.socket()) as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen()
        add(store, 1)
        environment = {
            **os.environ,
            "MRI_MONITORING_URL": store.url,
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{hung.getsockname()[1]}",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
        }
        command = [sys.executable, "-m", "service.monitoring"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: MLflow can't be reached, the figures wait") and done.stderr.count("\n") == 1
    assert [one["sent"] for one in kept(store)] == [None]
