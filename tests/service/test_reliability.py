"""The load and the drills, briefly: their figures say what happened."""

import os
import shutil
import subprocess
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from benchmarks import load, local_service, reliability
from benchmarks.load import Tally
from benchmarks.local_service import served
from mri.base.errors import UserError
from mri.inference.package import Package
from mri.inference.runtime import read_card, write_card


def answer(status: int, body: dict, path: str = "/predict", **headers) -> httpx.Response:
    response = httpx.Response(status, json=body, headers=headers, request=httpx.Request("POST", f"http://a{path}"))
    response.elapsed = timedelta(seconds=0.5)
    return response


def test_deliberate_503s_are_no_failures_and_others_are():
    tally = Tally()
    tally.count(answer(200, {"request_id": "a"}))
    tally.count(answer(503, {"request_id": "b"}, **{"retry-after": "1"}))
    tally.count(answer(503, {"request_id": "c"}))
    tally.count(answer(500, {"request_id": "d"}))
    tally.count(answer(404, {"request_id": "e"}, "/nothing"))
    tally.unanswered(httpx.ReadError("cut"))
    assert tally.broken == Counter(ReadError=1)
    assert tally.statuses == Counter({"200": 1, "planned 503": 1, "503": 1, "500": 1, "404": 1, "no answer": 1})
    assert (tally.requests, tally.unplanned, tally.rows, tally.ms) == (6, 3, ["a", "b", "c", "d"], [500.0])


def test_a_batch_leaves_a_row_for_each_image():
    tally = Tally()
    tally.count(answer(200, {"request_id": "a", "predictions": [{"index": 0}, {"index": 1}]}, "/predict_batch"))
    assert tally.rows == ["a/0", "a/1"]


def test_each_part_of_a_load_is_counted_apart(monkeypatch):
    def client(address, seed, ended, tally):
        tally().count(answer(200, {"request_id": f"warm {seed}"}))
        warmed.wait()
        turned.wait()
        tally().count(answer(404, {"request_id": f"late {seed}"}), malformed=True)

    warmed, turned = threading.Barrier(3), threading.Event()
    monkeypatch.setattr(load, "client", client)
    asking = load.Load("http://a", clients=2)
    asking.start()
    warmed.wait()
    asking.next_part()
    turned.set()
    assert sorted(asking.stop().rows) == ["late 0", "late 1", "warm 0", "warm 1"]
    before, after = asking.parts()
    assert (before.requests, before.statuses, before.malformed) == (2, {"200": 2}, 0)
    assert (after.requests, after.statuses, after.malformed) == (2, {"404": 2}, 2)


@pytest.mark.parametrize(
    ("log", "reason"), [("loading\nerror: no package: run this\n", "no package: run this"), ("", "its log is empty")]
)
def test_a_service_that_does_not_start_is_said_in_its_own_last_line(tmp_path, log, reason):
    (tmp_path / "log").write_text(log)
    ended = subprocess.Popen(["true"])
    ended.wait()
    service = local_service.Service(ended, "http://127.0.0.1:1", tmp_path, tmp_path / "store.db")
    with pytest.raises(UserError) as error:
        local_service.wait_until_ready(service, 1)
    assert str(error.value) == f"the service doesn't start: {reason}"


@pytest.mark.slow
def test_a_short_load_is_answered_and_recorded_once_and_a_lost_row_would_be_seen(package, tmp_path):
    with served(tmp_path, package=package) as service:
        figures = load.measure(service, seconds=10, warm_up=5)
        assert figures["requests"] > 0 and figures["unplanned_5xx"] == 0 and figures["malformed"] > 0
        assert figures["recorded_exactly_once"] and figures["rows_of_all_requests"]["expected"] > 64
        assert sum(figures["statuses"].values()) == figures["requests"]
        assert figures["requests_per_s"] == pytest.approx(figures["requests"] / figures["seconds"])
        assert figures["outside"]["requests"] >= load.CLIENTS and figures["seconds"] >= 10
        ids = [row.request_id for row in service.store.select("request_id")]
        seen = load.recorded(service, [*ids[1:], "never recorded"], seconds=0)
        assert (seen["missing"], seen["unexpected"]) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("drill", ["worker_killed", "store_deleted", "clock_moved_back", "tracking_server_hung"])
def test_predictions_go_on_while_something_is_broken(package, tmp_path, drill):
    figures = reliability.DRILLS[drill](tmp_path, package, 4.0)
    assert figures["requests"] > 0 and figures.get("failures", 0) == 0
    assert figures["rows beyond them"] == 0
    if drill == "worker_killed":
        assert figures["workers at the end"] == 2 and figures["unanswered"] <= reliability.CLIENTS
    else:
        assert figures["of them missing"] == 0 and "no answer" not in figures["answers by status"], figures
    if drill == "tracking_server_hung":
        assert figures["connections that hang"] > 0


def can_mount(folder) -> bool:
    if os.geteuid():
        return False
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    return done.returncode == 0 and subprocess.run(["umount", str(folder)], check=True).returncode == 0


@pytest.mark.slow
def test_a_full_disk_delays_rows_and_what_is_lost_when_the_service_stops_is_counted(package, tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("a small disk can be mounted by root only")
    figures = reliability.disk_full(tmp_path / "a", package, 4.0)
    assert (figures["failures"], figures["unanswered"], figures["of them missing"]) == (0, 0, 0), figures
    figures = reliability.disk_full_to_the_end(tmp_path / "b", package, 4.0)
    assert figures["of them missing"] == figures["rows lost, says the log"] > 0


@pytest.mark.slow
def test_a_read_only_store_delays_rows_and_fails_nothing(package, tmp_path):
    (tmp_path / "probe").touch()
    if subprocess.run(["chattr", "+i", tmp_path / "probe"], capture_output=True).returncode:
        pytest.skip("needs root and a file system that knows chattr")
    subprocess.run(["chattr", "-i", tmp_path / "probe"], check=True)
    figures = reliability.store_read_only(tmp_path / "drill", package, 4.0)
    assert (figures["failures"], figures["unanswered"], figures["of them missing"]) == (0, 0, 0), figures
    assert "rows wait, predictions go on" in figures["what the log says of it"]


@pytest.mark.slow
def test_a_damaged_package_is_refused_at_the_start_in_one_line(package, tmp_path):
    figures = reliability.damaged_package(tmp_path, package, 0)
    assert (figures["exit code"], figures["lines said"]) == (2, 1)
    assert "models/winner/model.bin is damaged" in figures["said"]


def test_the_weights_that_are_damaged_are_those_that_serve(package, tmp_path):
    assert reliability.winners_weights(package) == package / "models/winner/model.bin"
    copy = Path(shutil.copytree(package, tmp_path / "copy"))
    write_card(read_card(copy / "models/winner") | {"precision": "int8"}, copy / "models/winner")
    assert reliability.winners_weights(copy) == copy / "models/winner/int8.bin"


def test_the_report_of_the_drills_says_what_was_served(package):
    about = local_service.described(package)
    assert about == {"winner": "winner", "data_version": "0123456789ab", "model_version": about["model_version"]}
    line = f"winner is winner (data version 0123456789ab, model version {Package(package).version('winner')})"
    assert line in reliability.title(package)


def test_a_drill_becomes_a_section_of_the_report():
    def store_gone(folder, package, seconds):
        """It is gone.

        And
        back.
        """

    text = reliability.section(store_gone, {"requests": 3})
    assert text == "## Store gone\n\nIt is gone.\n\nAnd back.\n\n| | |\n| --- | --- |\n| requests | 3 |\n"
