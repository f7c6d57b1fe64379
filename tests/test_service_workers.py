"""The service as it runs: `bentoml serve` with two workers on loopback."""

import contextlib
import os
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
from tests.serving import running

ROOT = Path(__file__).parents[1]
# Python runs this at the start of every process of the service: what it must not do is noted in a file, and fails.
GUARD = """
import os, sys

def watch(event, details):
    if event == "socket.connect" and isinstance(details[1], tuple):
        forbidden = details[1][0] not in ("127.0.0.1", "::1")
    elif event == "socket.getaddrinfo":
        forbidden = details[0] not in (None, "", "127.0.0.1", "::1", "localhost", "0.0.0.0")
    else:
        forbidden = event == "import" and details[0] == "torch"
    if forbidden:
        with open(os.environ["GUARD_NOTES"], "a") as notes:
            print(event, details[:2], file=notes)
        raise ConnectionRefusedError("forbidden in this test")

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a running service, its store, and the folder of its temporary files."""
    folder = tmp_path_factory.mktemp("served")
    packages.package(folder / "package")
    (folder / "temporary").mkdir()
    (folder / "guard").mkdir()
    (folder / "guard/sitecustomize.py").write_text(GUARD)
    environment = {
        **os.environ,
        "MRI_SERVICE": str(folder / "package"),
        "MRI_MONITORING_URL": f"sqlite:///{folder / 'monitoring.db'}",
        "MRI_MONITORING_KEY": "watch",
        "MRI_ROLLUP_SECONDS": "0",
        "BENTOML_HOME": str(folder / "bentoml"),
        "TMPDIR": str(folder / "temporary"),
        "PYTHONPATH": str(folder / "guard"),
        "GUARD_NOTES": str(folder / "notes"),
    }
    for name in ("BENTOML_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):  # must not be what it takes
        environment.pop(name, None)
    with running(["--api-workers", "2"], ROOT, environment, folder / "log") as address:
        yield address, Store(environment["MRI_MONITORING_URL"]), folder


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


@pytest.mark.slow
def test_no_process_of_the_service_loads_pytorch_or_connects_to_another_machine(served):
    address, _, folder = served
    methods = ",".join(httpx.get(f"{address}/models").json()["methods"])
    answer = httpx.post(f"{address}/predict", files={"image": packages.scan()}, data={"explain": methods}, timeout=60)
    assert answer.status_code == 200 and len(answer.json()["explanations"]) == 4
    time.sleep(2)
    assert not (folder / "notes").exists(), (folder / "notes").read_text()


@pytest.mark.slow
def test_the_guard_would_notice(served, tmp_path):
    _, _, folder = served
    environment = {**os.environ, "PYTHONPATH": str(folder / "guard"), "GUARD_NOTES": str(tmp_path / "notes")}
    tried = "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    for program in (tried, "import torch"):
        assert subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True).returncode != 0
    noted = (tmp_path / "notes").read_text()
    assert "192.0.2.1" in noted and "torch" in noted
