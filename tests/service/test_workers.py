"""The service as deployed: `bentoml serve` with two workers on loopback, seen from the network."""

import base64
import contextlib
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from benchmarks.local_service import served
from service.monitoring.store import requests
from tests import packages
from tests.conftest import eventually
from tests.imagefiles import dicom

pytestmark = pytest.mark.slow
KEY, WATCH = "MARKER-key-of-predictions", "MARKER-key-of-monitoring"
ASKING, WATCHING = {"x-api-key": KEY}, {"x-api-key": WATCH}
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
def service(package, tmp_path_factory):
    """A running service of two workers, with keys for predictions and for monitoring, that keeps rows for a day."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "guard").mkdir()
    (folder / "guard/sitecustomize.py").write_text(GUARD)
    settings = {
        "MRI_API_KEY": KEY,
        "MRI_MONITORING_KEY": WATCH,
        "MRI_MONITORING_DAYS": "1",
        "PYTHONPATH": str(folder / "guard"),
        "GUARD_NOTES": str(folder / "notes"),
        **dict.fromkeys(("BENTOML_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"), ""),  # must not be what it takes
    }
    with served(folder, package=package, **settings) as service:
        yield service


def post(service, path: str = "/predict", headers=ASKING, **content) -> httpx.Response:
    return httpx.post(f"{service.address}{path}", headers=headers, timeout=60, **content)


def test_two_workers_record_every_answered_request_exactly_once(service):
    def ask(i):
        answer = post(service, files={"image": b"bad" if i % 10 == 0 else packages.scan(i % 4)})
        return answer.json()["request_id"], answer.status_code

    before = {row.request_id for row in service.store.select("request_id")}
    with ThreadPoolExecutor(8) as pool:
        answered = sorted(pool.map(ask, range(60)))
    assert len(service.workers()) == 2
    assert {status for _, status in answered} == {200, 422}

    def new():
        return sorted(tuple(row) for row in service.store.select("request_id", "status") if row[0] not in before)

    assert eventually(lambda: new() == answered) and service.store.lost() == 0


def test_two_workers_in_parallel_give_exactly_the_serial_answers_and_maps(service):
    scans = [packages.scan(seed) for seed in range(6)]

    def ask(scan):
        body = post(service, files={"image": scan}, data={"explain": "gradcam,guided_backprop", "maps": "true"}).json()
        return {name: body[name] for name in ("probabilities", "set", "reasons", "explanations", "scan")}

    serial = [ask(scan) for scan in scans]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, scans)) == serial
    assert serial[0] != serial[1]


def test_pickles_and_addresses_are_refused(service):
    pickled = ASKING | {"content-type": "application/vnd.bentoml+pickle"}
    assert post(service, content=b"\x80\x04.", headers=pickled).status_code == 415
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.settimeout(1)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/scan.png"
        assert post(service, json={"image": url}).status_code == 415
        assert post(service, files={"image": (None, url)}).status_code == 400
        with pytest.raises(TimeoutError):
            listening.accept()  # nobody fetched it


def test_the_monitoring_key_guards_bentomls_metrics_too_and_both_workers_count_there(service):
    for path in ("/metrics", "/monitoring", "/api/monitoring"):
        refused = httpx.get(f"{service.address}{path}", headers=ASKING)
        assert (refused.status_code, refused.headers["x-content-type-options"]) == (401, "nosniff")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: post(service, files={"image": packages.scan(i)}), range(8)))

    def agree():
        text = httpx.get(f"{service.address}/metrics", headers=WATCHING).text
        counted = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("mri_images_total")]
        return sum(counted) == len(service.store.select("id")) > 0 and "bentoml_service_request_total" in text

    assert eventually(agree)


def test_unknown_paths_have_the_stable_form_and_bentomls_own_are_kept(service):
    asked = [
        ("GET", "/nope"),
        ("GET", "/health"),
        ("POST", "/predict/"),
        ("GET", "/livez/"),
        ("GET", "/static_content"),
    ]
    for method, path in asked:
        answer = httpx.request(method, f"{service.address}{path}", headers=ASKING)
        assert (answer.status_code, set(answer.json())) == (404, {"error", "detail", "request_id"}), path
        assert answer.json()["error"] == "not_found"
    refused = httpx.get(f"{service.address}/predict", headers=ASKING)
    assert (refused.status_code, refused.json()["error"]) == (405, "method_not_allowed")
    for path in ("/livez", "/healthz", "/readyz"):
        answer = httpx.get(f"{service.address}{path}")
        assert (answer.status_code, answer.text) == (200, "\n")
    assert "bentoml_service_request_total" in httpx.get(f"{service.address}/metrics", headers=WATCHING).text
    assert "/predict" in httpx.get(f"{service.address}/docs.json").json()["paths"]
    assert httpx.get(f"{service.address}/schema.json").json()["name"] == "brain_tumour_classifier"


def test_no_temporary_file_is_left_after_a_large_upload(service):
    answers = [post(service, files={"image": bytes(size)}) for size in (5_000_000, 25_000_000)]
    assert [answer.status_code for answer in answers] == [422, 413]
    left = [path for path in (service.folder / "temporary").rglob("*") if path.is_file()]
    assert [path for path in left if path.stat().st_size > 100_000] == []


PATIENT = {
    "PatientName": "MARKER^Patient",
    "PatientID": "MARKER-id",
    "PatientBirthDate": "19010203",
    "PatientAddress": "MARKER street",
    "InstitutionName": "MARKER hospital",
    "ReferringPhysicianName": "MARKER^Doctor",
    "AccessionNumber": "MARKER-number",
    "PatientComments": "MARKER comment",
    "StudyDescription": "MARKER study",
}


def test_nothing_of_a_patient_is_answered_recorded_or_logged(service):
    slice_of_patient = dicom(np.random.default_rng(0).integers(0, 900, (40, 40)).astype(np.uint16), **PATIENT)
    broken = slice_of_patient[:-700]
    assert slice_of_patient.count(b"MARKER") == 8 and b"MARKER" in broken
    headers = ASKING | {"user-agent": "MARKER-agent", "referer": "http://MARKER.example/"}
    for data, status in ((slice_of_patient, 200), (broken, 422), (b"MARKER", 422)):
        answer = post(service, files={"image": ("MARKER.dcm", data)}, data={"explain": "gradcam"}, headers=headers)
        assert answer.status_code == status and "MARKER" not in answer.text and "19010203" not in answer.text
    answer = post(service, files={"image": ("MARKER.dcm", broken)}, data={"model": "winner"}, headers=headers)
    assert eventually(lambda: answer.json()["request_id"] in {row[0] for row in service.store.select("request_id")})
    kept = [path for path in service.folder.rglob("*") if path.is_file()]
    assert service.folder / "log" in kept and service.store_file in kept
    assert [path for path in kept if b"MARKER" in path.read_bytes() or b"19010203" in path.read_bytes()] == []


def test_keys_are_never_logged(service):
    basic = base64.b64encode(f"anyone:{KEY}".encode()).decode()
    ways = [ASKING, {"authorization": f"Bearer {KEY}"}, {"authorization": f"Basic {basic}"}, {"x-api-key": f"{KEY}x"}]
    answers = [post(service, files={"image": packages.scan()}, headers=way) for way in ways]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401]
    httpx.get(f"{service.address}/api/monitoring", headers=WATCHING)
    text = service.log + "".join(answer.text for answer in answers)
    assert "path=/predict" in text  # requests are logged
    assert not [secret for secret in (KEY, WATCH, basic) if secret in text]


def test_headers_beyond_any_use_end_only_their_own_request(service):
    answer = post(service, files={"image": packages.scan()}, headers=ASKING | {"x-padding": "a" * 20_000})
    assert (answer.status_code, answer.json()["error"]) == (431, "headers_too_large")
    with contextlib.suppress(httpx.HTTPError):
        assert 400 <= post(service, headers=ASKING | {"x-padding": "a" * 10**6}).status_code < 500
    assert post(service, files={"image": packages.scan()}).status_code == 200


def test_rows_older_than_the_retention_vanish_while_the_service_runs(service):
    common = {"route": "/predict", "status": 200, "ms": 1.0}
    for name, age in (("old", 1.1), ("young", 0.9)):
        service.store.insert([common | {"request_id": name, "time": time.time() - 86_400 * age}])

    def kept():
        return {
            row[0] for row in service.store.select("request_id", where=[requests.c.request_id.in_(["old", "young"])])
        }

    assert eventually(lambda: kept() == {"young"})


def test_no_process_of_the_service_loads_pytorch_or_connects_to_another_machine(service):
    methods = ",".join(httpx.get(f"{service.address}/models").json()["methods"])
    answer = post(service, files={"image": packages.scan()}, data={"explain": methods})
    assert answer.status_code == 200 and len(answer.json()["explanations"]) == 4
    time.sleep(2)
    notes = service.folder / "notes"
    assert not notes.exists(), notes.read_text()


def test_the_guard_would_notice(service, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(service.folder / "guard"), "GUARD_NOTES": str(tmp_path / "notes")}
    tried = "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    for program in (tried, "import torch"):
        assert subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True).returncode != 0
    noted = (tmp_path / "notes").read_text()
    assert "192.0.2.1" in noted and "torch" in noted
