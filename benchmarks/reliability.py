"""Break one thing after the other under a running service, and write results/reliability.md.

    python -m benchmarks.reliability
    python -m benchmarks.reliability --seconds 10 worker_killed    # one drill, shorter, only printed

Counts and states matter; latencies are given as ratios only, so the machine needn't be idle. Some drills need root on
Linux: they mount a small disk or make a file immutable.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from benchmarks import local_service
from benchmarks.load import SCANS, Load, Tally, recorded
from benchmarks.local_service import Service, served
from mri.base import hardware
from mri.base.cli import Parser, guarded, positive
from mri.base.errors import UserError
from mri.base.files import read_json
from mri.inference.package import ABOUT
from mri.inference.runtime import PRECISIONS, read_card
from service.monitoring.store import leases, requests

OUT = Path("results/reliability.md")
CLIENTS, SECONDS = 8, 20.0
# Rows in the store before anything is broken.
WARM = 50
# Seconds after which a repaired store has all rows.
PATIENCE = 30.0
# Several times what the rows of a drill need.
DISK_BYTES = 40_000_000
ONE_DAY = 86_400
# A sitecustomize.py that shifts a Python process's clock by the number in a file.
CLOCK = """
import pathlib, time
_real, _offset = time.time, pathlib.Path(__file__).with_name("offset")
time.time = lambda: _real() + float(_offset.read_text())
"""

TITLE = """# What the service does when something breaks

Written by `python -m benchmarks.reliability`; every figure is of that run. A drill starts a service, keeps {clients}
clients asking without a pause (one request in twenty malformed), breaks one thing, and repairs it where possible.
"Failures" are answers of 500 and above, except a 503 that says when to retry; "unanswered" are connections that broke.
The store should hold one row for every answered image and every refused request.

The package's winner is {winner} (data version {data_version}, model version {model_version}).
{hardware}; {date}.
"""

Figures = dict[str, Any]


@contextlib.contextmanager
def loaded(service: Service, seconds: float) -> Iterator[Load]:
    """Run clients until the block ends; they have sent requests for a while when it begins."""
    load = Load(service.address, CLIENTS)
    load.start()
    wait_for(lambda: load.requests() > WARM and len(service.store.select("request_id", newest=WARM)) == WARM)
    time.sleep(seconds / 4)
    try:
        yield load
    finally:
        load.stop()


def worker_killed(folder: Path, package: Path, seconds: float) -> Figures:
    """One of two workers is killed (SIGKILL) under load.

    Answers that it hadn't recorded yet are lost: rows are written within a fifth of a second.
    """
    with served(folder, package=package) as service, loaded(service, seconds) as load:
        before, killed_at = load.requests(), time.monotonic()
        service.workers()[0].kill()
        while service.initialised() < 3:
            if time.monotonic() - killed_at > local_service.START_SECONDS:
                raise UserError("the worker did not come back")
            time.sleep(0.05)
        away, meanwhile = time.monotonic() - killed_at, load.requests() - before
        time.sleep(seconds / 4)
        workers = len(service.workers())
        tally = load.stop()
        rows = recorded(service, tally.rows, seconds=5)
    return {
        **answers(tally),
        "seconds until there were two again": round(away, 1),
        "requests over meanwhile": meanwhile,
        "workers at the end": workers,
        **store(rows),
    }


def store_deleted(folder: Path, package: Path, seconds: float) -> Figures:
    """The store's file is deleted, and not what SQLite keeps beside it.

    It is created again. Rows that still went to the deleted file are read through a connection opened before.
    """
    with served(folder, package=package) as service, loaded(service, seconds) as load:
        with contextlib.closing(sqlite3.connect(service.store_file, timeout=30)) as deleted:
            deleted.execute("SELECT count(*) FROM requests").fetchone()
            service.store_file.unlink()
            time.sleep(seconds / 2)
            tally = load.stop()
            gone = {name for (name,) in deleted.execute("SELECT request_id FROM requests")}
        rows = recorded(service, [name for name in tally.rows if name not in gone], PATIENCE)
    return {**answers(tally), "rows deleted with the file": len(gone), **store(rows)}


def store_read_only(folder: Path, package: Path, seconds: float) -> Figures:
    """The store's files can be read and not written.

    Permissions don't stop root, so the database and its log are made immutable (`chattr +i`), which does, files that
    are open already included. What SQLite keeps beside them in -shm is memory that processes share, and stays.
    """
    with served(folder, package=package) as service, loaded(service, seconds) as load:
        immutable(folder, "+i")
        try:
            time.sleep(seconds / 2)
            page = httpx.get(f"{service.address}/api/monitoring", timeout=60).status_code
        finally:
            immutable(folder, "-i")
        tally = load.stop()
        rows = recorded(service, tally.rows, PATIENCE)
    return {**answers(tally), "answer of /api/monitoring meanwhile": page, **log_line(service), **store(rows)}


def immutable(folder: Path, flag: str) -> None:
    files = [str(folder / f"monitoring.db{suffix}") for suffix in ("", "-wal")]
    done = subprocess.run(["chattr", flag, *files], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"this drill needs root and a file system that knows chattr ({done.stderr.strip()})")


def disk_full(folder: Path, package: Path, seconds: float) -> Figures:
    """The store's disk is full for a while: a small one is mounted for it (tmpfs) and filled up."""
    with small_disk(folder / "disk") as disk, _on(disk, folder, package) as service, loaded(service, seconds) as load:
        fill(disk)
        time.sleep(seconds / 2)
        (disk / "filling").unlink()
        tally = load.stop()
        rows = recorded(service, tally.rows, PATIENCE)
    return {**answers(tally), **log_line(service), **store(rows)}


def disk_full_to_the_end(folder: Path, package: Path, seconds: float) -> Figures:
    """The store's disk is full, and the service is stopped before anything is done about it.

    Rows that can't be written by then are lost, and the log counts them.
    """
    with small_disk(folder / "disk") as disk, _on(disk, folder, package) as service, loaded(service, seconds) as load:
        fill(disk)
        time.sleep(seconds / 2)
        tally = load.stop()
        local_service.stop(service)
        (disk / "filling").unlink()
        rows = recorded(service, tally.rows, seconds=0)
        service.store.close()
    lost = [line.split("used: ")[1].split()[0] for line in service.log.splitlines() if "rows are lost" in line]
    return {**answers(tally), "rows lost, says the log": sum(map(int, lost)), **store(rows)}


def _on(disk: Path, folder: Path, package: Path) -> contextlib.AbstractContextManager[Service]:
    return served(folder, package=package, store=disk / "monitoring.db")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of DISK_BYTES until the block ends."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"this drill needs root, to mount a small disk ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Fill up the disk."""
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        for _ in range(DISK_BYTES // 512 + 1):
            file.write(bytes(512))


def tracking_server_hung(folder: Path, package: Path, seconds: float) -> Figures:
    """The MLflow server takes connections and never answers.

    A second service without roll-ups, asked in turn with this one, tells what is normal on the machine at that moment.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(HungServer())
        settings = {"MLFLOW_TRACKING_URI": server.uri, "MRI_ROLLUP_SECONDS": "1"}
        waiting = stack.enter_context(served(folder / "hung", 1, package=package, **settings))
        normal = stack.enter_context(served(folder / "normal", 1, package=package))
        rows, until = [], time.monotonic() + local_service.START_SECONDS
        while not server.connections and time.monotonic() < until:
            rows.append(_ask(waiting).json()["request_id"])
            time.sleep(0.1)
        ms: dict[str, list[float]] = {"hung": [], "normal": []}
        statuses: Counter[int] = Counter()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, service in (("hung", waiting), ("normal", normal)):
                answer = _ask(service)
                ms[name].append(answer.elapsed.total_seconds())
                if service is waiting:
                    statuses[answer.status_code] += 1
                    rows.append(answer.json()["request_id"])
        stored = recorded(waiting, rows, PATIENCE)
    return {
        "requests": statuses.total(),
        "answers by status": by_status(statuses),
        "connections that hang": server.connections,
        "median latency over the normal one": round(statistics.median(ms["hung"]) / statistics.median(ms["normal"]), 2),
        **store(stored),
    }


def _ask(service: Service) -> httpx.Response:
    return httpx.post(f"{service.address}/predict", files={"image": SCANS[0]}, timeout=60)


class HungServer(threading.Thread):
    """A server that accepts connections and never answers. connections: how many there were."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def connections(self) -> int:
        return len(self._open)

    def run(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                self._open.append(self._socket.accept()[0])

    def __enter__(self) -> HungServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in [self._socket, *self._open]:
            one.close()


def clock_moved_back(folder: Path, package: Path, seconds: float) -> Figures:
    """The clock goes back by a day while the service runs, and forward again.

    The service's processes read a clock that the drill sets: a sitecustomize.py wraps `time.time`. Retention is half
    a day, so rows that come from tomorrow must neither vanish nor stop the work beside the answering.
    """
    (folder / "clock").mkdir(parents=True)
    (folder / "clock/sitecustomize.py").write_text(CLOCK)
    offset = folder / "clock/offset"
    offset.write_text("0")
    settings = {"PYTHONPATH": str(folder / "clock"), "MRI_MONITORING_DAYS": "0.5"}
    with served(folder, package=package, **settings) as service:
        wait_for(lambda: held_until(service) is not None)
        with loaded(service, seconds) as load:
            turn(offset, -ONE_DAY)
            moved_at = time.monotonic()
            wait_for(lambda: (held_until(service) or time.time()) < time.time() - ONE_DAY / 2)
            taken_over = time.monotonic() - moved_at
            time.sleep(seconds / 4)
            tally = load.stop()
        rows = recorded(service, tally.rows, PATIENCE)
        turn(offset, 0)
        wait_for(lambda: not service.store.select("request_id", where=[requests.c.time < time.time() - ONE_DAY / 2]))
        kept = len(service.store.select("request_id"))
    return {
        **answers(tally),
        "seconds until the work beside the answering went on": round(taken_over, 1),
        **store(rows),
        "rows kept when the clock was right again, those of its wrong day being too old": kept,
    }


def turn(offset: Path, seconds: float) -> None:
    """Shift the clock by so many seconds, atomically."""
    new = offset.with_name("new")
    new.write_text(str(seconds))
    new.replace(offset)


def held_until(service: Service) -> float | None:
    """Return when the lease of the background work ends, by the service's clock."""
    with service.store.begin() as connection:
        return connection.execute(sa.select(leases.c.until)).scalar()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + local_service.START_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise UserError("nothing happened for too long")
        time.sleep(0.1)


def winners_weights(package: Path) -> Path:
    """Return the weights that are loaded at the start: of the precision that serves, not of the guided graph."""
    folder = package / "models" / read_json(package / ABOUT)["winner"]
    return (folder / PRECISIONS[read_card(folder)["precision"]][0]).with_suffix(".bin")


def damaged_package(folder: Path, package: Path, seconds: float) -> Figures:
    """The winner, which is loaded at the start, has a single wrong bit before the service starts."""
    copy = Path(shutil.copytree(package, folder / "copy"))
    weights = winners_weights(copy)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    service = local_service.start(folder, 2, copy)
    try:
        code = service.process.wait(local_service.START_SECONDS)
    finally:
        local_service.stop(service)
    lines = service.log.strip().replace(f"{copy}/", "").splitlines()
    return {"exit code": code, "lines said": len(lines), "said": f"`{lines[-1]}`"}


DRILLS: dict[str, Callable[[Path, Path, float], Figures]] = {
    drill.__name__: drill
    for drill in (
        worker_killed,
        store_deleted,
        store_read_only,
        disk_full,
        disk_full_to_the_end,
        tracking_server_hung,
        clock_moved_back,
        damaged_package,
    )
}


def answers(tally: Tally) -> Figures:
    unanswered = tally.statuses["no answer"]
    return {
        "requests": tally.requests,
        "answers by status": by_status(tally.statuses),
        "failures": tally.unplanned - unanswered,
        "unanswered": unanswered,
        **({"how they broke": by_status(tally.broken)} if tally.broken else {}),
    }


def by_status(statuses: Counter[Any]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in sorted(statuses.items()))


def log_line(service: Service) -> Figures:
    lines = [line for line in service.log.splitlines() if "rows wait, predictions go on" in line]
    return {"what the log says of it": f"`{lines[0].split('] ')[-1]}`" if lines else "nothing"}


def store(rows: dict[str, Any]) -> Figures:
    return {
        "rows expected in the store": rows["expected"],
        "of them missing": rows["missing"],
        "rows beyond them": rows["unexpected"],
        "counted as lost in the store": rows["counted_as_lost"],
    }


def section(drill: Callable[..., Figures], figures: Figures) -> str:
    """Return a drill as Markdown: what it did and its figures."""
    first, *rest = [" ".join(part.split()) for part in (drill.__doc__ or "").split("\n\n")]
    table = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    heading = drill.__name__.replace("_", " ").capitalize()
    return "\n\n".join([f"## {heading}", first, *rest, f"| | |\n| --- | --- |\n{table}"]) + "\n"


def run(names: list[str], package: Path, seconds: float) -> str:
    """Run drills and return their sections."""
    sections = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            sections.append(section(DRILLS[name], DRILLS[name](Path(folder), package, seconds)))
        print(sections[-1], flush=True)
    return "\n".join(sections)


def title(package: Path) -> str:
    """Return the introduction: what was served, on which machine, when."""
    machine = hardware.describe()
    named = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
    about = local_service.described(package)
    return TITLE.format(clients=CLIENTS, hardware=named, date=date.today().isoformat(), **about)


def main() -> None:
    parser = Parser("benchmarks.reliability", __doc__)
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=f"all when left out: {', '.join(DRILLS)}")
    parser.add_argument(
        "--seconds", type=positive(float), default=SECONDS, help="for which something stays broken, about"
    )
    arguments = parser.parse_args()
    for name in arguments.drills:
        if name not in DRILLS:
            raise UserError(f"unknown drill {name!r}: choose from {', '.join(DRILLS)}")
    package = local_service.packaged(None)
    sections = run(arguments.drills or list(DRILLS), package, arguments.seconds)
    if not arguments.drills:
        OUT.write_text(f"{title(package)}\n{sections}")


if __name__ == "__main__":
    guarded(main)
