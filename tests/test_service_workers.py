"""The service as it runs: `bentoml serve` with two workers on loopback."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.monitoring.store import Store
from tests import packages

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A running service of two workers, with keys for predictions and for monitoring."""
    folder = tmp_path_factory.mktemp("served")
    packages.package(folder / "package")
    with served(folder, 2, folder / "package", MRI_API_KEY=KEY, MRI_MONITORING_KEY=WATCH) as service:
        yield service


@pytest.mark.slow
def test_two_workers_record_every_answered_request_exactly_once(served):
    address, store, _ = served

    def ask(i):
        image = b"bad" if i % 10 == 0 else packages.scan(i % 4)
        answer = httpx.post(f"{address}/predict", files={"image": image}, timeout=60)
        return answer.json()["request_id"], answer.status_code

    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(ask, range(60)))
    time.sleep(1)
    assert sorted(map(tuple, store.select("request_id", "status"))) == sorted(answered)
    assert {status for _, status in answered} == {200, 422} and store.lost() == 0


@pytest.mark.slow
def test_pickles_and_addresses_are_refused(served):
    address, _, _ = served
    pickled = {"content-type": "application/vnd.bentoml+pickle"}
    assert httpx.post(f"{address}/predict", content=b"\x80\x04.", headers=pickled).status_code == 415
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(1)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/scan.png"
        assert httpx.post(f"{address}/predict", json={"image": url}).status_code == 415
        assert httpx.post(f"{address}/predict", files={"image": (None, url)}).status_code == 400
        with pytest.raises(TimeoutError):
            listening.accept()  # nobody fetched it


@pytest.mark.slow
def test_the_monitoring_key_guards_bentomls_metrics_too_and_both_workers_count_there(served):
    address, store, _ = served
    assert {httpx.get(f"{address}{path}").status_code for path in ("/metrics", "/monitoring", "/api/monitoring")} == {
        401
    }
    text = httpx.get(f"{address}/metrics", headers={"x-api-key": "watch"}).text
    counted = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("mri_images_total")]
    assert sum(counted) == len(store.select("id")) > 0 and "bentoml_service_request_total" in text


@pytest.mark.slow
def test_no_temporary_file_is_left_after_a_large_upload(served):
    address, _, folder = served
    answer = httpx.post(f"{address}/predict", files={"image": bytes(5_000_000)}, timeout=60)
    too_large = httpx.post(f"{address}/predict", files={"image": bytes(25_000_000)}, timeout=60)
    assert (answer.status_code, too_large.status_code) == (422, 413)
    left = [path for path in (folder / "temporary").rglob("*") if path.is_file() and path.stat().st_size > 100_000]
    assert left == []
