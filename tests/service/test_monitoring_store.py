import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.monitoring.recorder import Recorder
from service.monitoring.store import Store, metadata, requests
from tests.conftest import file_size_limit


def row(**changes):
    common = {"request_id": str(uuid.uuid4()), "time": time.time(), "route": "/predict", "status": 200, "ms": 12.5}
    return common | {"model": "small", "label": "glioma", "probabilities": {"glioma": 1.0}} | changes


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("service.monitoring.recorder.RETRY_SECONDS", 0.1)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'monitoring.db'}"


@pytest.fixture
def store(url):
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def recorder(url):
    recorder = Recorder(Store(url))
    yield recorder
    recorder.close()


def recorded(store) -> list[str]:
    return [row.request_id for row in store.select("request_id")]


def test_a_recorded_row_is_in_the_store_with_every_value(recorder):
    recorder.put(**row(request_id="a", projection=[0.5, -1.0], abstain=True))
    assert recorder.flush(5)
    rows = recorder.store.select("request_id", "probabilities", "projection", "abstain", "feedback")
    assert [tuple(row) for row in rows] == [("a", {"glioma": 1.0}, [0.5, -1.0], True, None)]


def test_rows_of_several_processes_are_all_there_once(url):
    record_in_processes(url, 200)
    store = Store(url)
    assert sorted(recorded(store)) == sorted(f"{name}{i}" for name in ("a", "b", "c") for i in range(200))
    assert store.lost() == 0


def record_in_processes(url, number):
    """Record rows from three processes at a time: a0, a1, ..., b0, b1, ..., c0, c1, ..."""
    program = (
        "import sys\nfrom service.monitoring.recorder import Recorder\nfrom service.monitoring.store import Store\n"
        "url, number, name = sys.argv[1:]\nrecorder = Recorder(Store(url))\nfor i in range(int(number)):\n"
        "    recorder.put(request_id=f'{name}{i}', time=0.0, route='/predict', status=200, ms=1.0)\n"
        "recorder.close()"
    )
    command = [sys.executable, "-c", program, url, str(number)]
    processes = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_a_locked_store_delays_rows_and_loses_none(recorder, tmp_path):
    recorder.put(**row(request_id="before"))
    assert recorder.flush(5)
    other = sqlite3.connect(tmp_path / "monitoring.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    for i in range(20):
        recorder.put(**row(request_id=str(i)))
    assert time.monotonic() - started < 0.5  # whoever records doesn't wait
    assert not recorder.flush(0.5)
    other.execute("COMMIT")
    assert recorder.flush(20)
    assert recorded(recorder.store) == ["before", *map(str, range(20))] and recorder.lost == 0


def test_rows_beyond_what_may_wait_are_counted_and_the_store_is_told(url, tmp_path):
    recorder = Recorder(Store(url), max_waiting=5)
    recorder.put(**row())
    assert recorder.flush(5)
    other = sqlite3.connect(tmp_path / "monitoring.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        recorder.put(**row())
    while not recorder._rows.empty():
        time.sleep(0.01)
    time.sleep(1)  # until what the thread has in its hands is what it tries to write
    for _ in range(10):
        recorder.put(**row())
    assert recorder.lost == 5
    other.execute("COMMIT")
    recorder.close()
    store = Store(url)
    assert len(recorded(store)) + recorder.lost == 14
    assert store.lost() == 5


def test_a_store_that_an_older_version_made_gets_the_new_column_and_keeps_its_rows(url):
    older = sa.MetaData()
    newer = ("model_version", "feedback_rollup")
    columns = [column._copy() for column in requests.columns if column.name not in newer]
    sa.Table("requests", older, *columns, sqlite_autoincrement=True)
    engine = sa.create_engine(url)
    older.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(older.tables["requests"]).values(**row(request_id="before")))
    for name, store in (("first", Store(url)), ("second", Store(url))):
        store.insert([row(request_id=name, model_version="0123456789ab")])
    rows = [tuple(row) for row in Store(url).select("request_id", "model_version")]
    assert rows == [("before", None), ("first", "0123456789ab"), ("second", "0123456789ab")]
    assert Store(url).feedback("before", "glioma")
    indexes = {name for index in sa.inspect(engine).get_indexes("requests") for name in index["column_names"]}
    assert {"time", "rollup", "feedback_rollup"} <= indexes


def test_workers_that_meet_a_store_of_an_older_version_at_once_lose_nothing(url):
    metadata = sa.MetaData()
    sa.Table("requests", metadata, *(c._copy() for c in requests.columns if c.name != "model_version"))
    metadata.create_all(sa.create_engine(url))
    record_in_processes(url, 20)
    assert len(recorded(Store(url))) == 60 and Store(url).lost() == 0


def test_a_full_disk_loses_nothing_once_there_is_room(recorder):
    recorder.put(**row(request_id="before"))
    assert recorder.flush(5)
    with file_size_limit(1):
        recorder.put(**row(request_id="during"))
        assert not recorder.flush(0.5)
    assert recorder.flush(10)
    assert recorded(recorder.store) == ["before", "during"]


def test_a_deleted_store_is_made_anew(recorder, tmp_path):
    recorder.put(**row(request_id="before"))
    assert recorder.flush(5)
    (tmp_path / "monitoring.db").unlink()  # and not what SQLite keeps beside it
    recorder.put(**row(request_id="after"))
    assert recorder.flush(5)
    assert recorded(Store(recorder.store.url)) == ["after"]


def test_two_processes_find_the_same_new_store_after_it_was_deleted(url, tmp_path):
    first, second = Store(url), Store(url)
    first.insert([row(request_id="old")])
    assert recorded(second) == ["old"]
    (tmp_path / "monitoring.db").unlink()
    first.insert([row(request_id="a")])
    second.insert([row(request_id="b")])
    first.insert([row(request_id="c")])
    assert recorded(first) == recorded(second) == recorded(Store(url)) == ["a", "b", "c"]
    check = sqlite3.connect(tmp_path / "monitoring.db").execute("PRAGMA integrity_check").fetchone()
    assert check == ("ok",)


def test_all_rows_that_wait_when_the_service_stops_and_can_not_be_written_are_counted(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("service.monitoring.recorder.LAST_SECONDS", 0.5)
    recorder = Recorder(Store(f"sqlite:///{tmp_path / 'no' / 'folder.db'}"))
    recorder.put(**row())
    time.sleep(0.5)  # the first is in the thread's hands
    for _ in range(20):
        recorder.put(**row())
    recorder.close()
    assert recorder.lost == 21 and "21 rows are lost" in caplog.text
    assert any("rows wait, predictions go on" in line for line in caplog.messages)


@contextlib.contextmanager
def read_only(folder):
    """Make a folder's files read-only: by permissions, or by a mount for root, whom permissions don't stop."""
    if os.geteuid():
        (folder / "monitoring.db").chmod(0o400)
        yield
        (folder / "monitoring.db").chmod(0o600)
        return
    bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, text=True)
    if bound.returncode:
        pytest.skip(f"root writes everywhere, and nothing can be mounted here ({bound.stderr.strip()})")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_read_only_store_delays_rows_and_loses_none(tmp_path, caplog):
    folder = tmp_path / "store"
    folder.mkdir()
    store = Store(f"sqlite:///{folder / 'monitoring.db'}")
    store.insert([row(request_id="before")])
    store.close()
    recorder = Recorder(store)
    with read_only(folder):
        recorder.put(**row(request_id="during"))
        assert not recorder.flush(0.5)
    assert any("rows wait, predictions go on" in line for line in caplog.messages)
    assert recorder.flush(20) and recorded(recorder.store) == ["before", "during"] and recorder.lost == 0
    recorder.close()


@pytest.mark.parametrize("kind", [InterfaceError, InternalError, DatabaseError, ProgrammingError, PoolTimeoutError])
def test_whatever_another_database_says_when_it_is_away_rows_wait_and_none_is_lost(recorder, monkeypatch, kind):
    insert, refused = recorder.store.insert, []

    def away(rows):
        if len(refused) < 2:
            refused.append(len(rows))
            raise kind("INSERT", {}, Exception("connection already closed")) if issubclass(kind, DBAPIError) else kind()
        insert(rows)

    monkeypatch.setattr(recorder.store, "insert", away)
    for name in ("a", "b"):
        recorder.put(**row(request_id=name))
    assert recorder.flush(20)
    assert len(refused) == 2 and recorded(recorder.store) == ["a", "b"] and recorder.lost == 0


@pytest.mark.parametrize("kind", [OperationalError, ProgrammingError, IntegrityError])
def test_tables_that_other_workers_make_first_are_used_whatever_the_database_calls_that(url, monkeypatch, kind):
    create_all, ahead = metadata.create_all, list(metadata.sorted_tables)

    def exists(engine):
        if not ahead:
            return create_all(engine)
        table = ahead.pop(0)
        table.create(engine)
        raise kind(f"CREATE TABLE {table.name}", {}, Exception(f"relation {table.name} already exists"))

    monkeypatch.setattr(metadata, "create_all", exists)
    store = Store(url)
    store.insert([row(request_id="a")])
    assert recorded(store) == ["a"] and not ahead


def test_workers_that_make_a_store_at_once_all_use_it(tmp_path):
    for attempt in range(10):
        url = f"sqlite:///{tmp_path / f'{attempt}.db'}"
        stores, together = [Store(url) for _ in range(8)], threading.Barrier(8)

        def insert(store, together=together):
            together.wait()
            store.insert([row()])

        with ThreadPoolExecutor(8) as workers:
            list(workers.map(insert, stores))
        assert len(recorded(stores[0])) == 8 and len({store.id() for store in stores}) == 1
        for store in stores:
            store.close()


def test_a_file_that_is_no_database_delays_rows_until_it_is_removed(url, tmp_path):
    (tmp_path / "monitoring.db").write_text("no database " * 100)
    recorder = Recorder(Store(url))
    recorder.put(**row(request_id="a"))
    assert not recorder.flush(0.5)
    (tmp_path / "monitoring.db").unlink()
    assert recorder.flush(10)
    assert recorded(recorder.store) == ["a"] and recorder.lost == 0
    recorder.close()


def test_a_value_that_no_column_takes_loses_its_row_alone(recorder):
    recorder.put(**row(request_id="bad", abstain="neither"))
    recorder.put(**row(request_id="good"))
    assert recorder.flush(10)
    assert recorded(recorder.store) == ["good"] and recorder.lost == 1


def test_a_row_that_no_database_takes_does_not_hold_up_the_others(recorder):
    recorder.put(**row(request_id="twice"))
    recorder.put(**row(request_id="twice"))
    recorder.put(**row(request_id="other"))
    assert recorder.flush(10)
    assert recorded(recorder.store) == ["twice", "other"] and recorder.lost == 1


def test_rows_older_than_the_retention_are_deleted_and_younger_ones_kept(store):
    now = time.time()
    store.insert([row(request_id="old", time=now - 100), row(request_id="young", time=now - 10)])
    assert store.delete_before(now - 50) == 1
    assert recorded(store) == ["young"]


def test_feedback_is_noted_only_for_answered_images(store):
    store.insert([row(request_id="a"), row(request_id="failed", status=422, label=None)])
    assert store.feedback("a", "pituitary")
    assert not store.feedback("failed", "pituitary") and not store.feedback("unknown", "pituitary")
    assert [tuple(row) for row in store.select("request_id", "feedback")] == [("a", "pituitary"), ("failed", None)]


def test_a_lease_is_held_by_one_until_it_ends_or_the_clock_goes_back(store, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    assert store.lease("background", "a", 60) and not store.lease("background", "b", 60)
    assert store.lease("background", "a", 60)
    now += 61
    assert store.lease("background", "b", 60) and not store.lease("background", "a", 60)
    now -= 10_000
    assert store.lease("background", "a", 60)
    store.release("background", "a")
    assert store.lease("background", "b", 60)


def test_only_the_newest_rows_are_read_when_asked_for(store):
    store.insert([row(request_id=str(i), status=200 + i) for i in range(5)])
    assert [row.request_id for row in store.select("request_id", newest=2)] == ["3", "4"]
    rows = store.select("request_id", where=[requests.c.status < 202])
    assert [row.request_id for row in rows] == ["0", "1"]


def test_a_column_holds_what_its_name_says_and_none_holds_text_from_the_client():
    text = {column.name for column in requests.columns if isinstance(column.type, sa.String)}
    assert text == {"request_id", "route", "error", "model", "model_version", "data_version", "label", "feedback"}
