"""Run a real service for benchmarks and tests: `bentoml serve` on loopback, with its own files, until it is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from mri.base.errors import UserError
from mri.base.paths import SERVICE
from mri.inference.package import Package
from service.monitoring.store import Store

ROOT = Path(__file__).parents[1]
START_SECONDS, END_SECONDS = 240, 20
WORKER = "_bentoml_impl.worker.service"


class Service:
    """A running service. folder: holds its log, its store and its temporary files."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, folder: Path, store_file: Path):
        self.process, self.address, self.folder, self.store_file = process, address, folder, store_file
        self.store = Store(f"sqlite:///{self.store_file}")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def tree(self) -> list[psutil.Process]:
        """Return the service's processes: the one that was started, and its descendants."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer requests, oldest first."""
        workers = []
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                if WORKER in process.cmdline():
                    workers.append(process)
        return sorted(workers, key=lambda process: process.create_time())

    def initialised(self) -> int:
        """Count the workers that have started so far, including those that have ended since."""
        return self.log.count("brain_tumour_classifier initialized")


def free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(
    folder: Path,
    workers: int = 2,
    package: Path | None = None,
    store: Path | None = None,
    command: Sequence[str] = (),
    working: Path = ROOT,
    **settings: str,
) -> Service:
    """Start `bentoml serve COMMAND` in the folder `working`; it may still be loading when this returns.

    package: artifacts/service by default. store: in `folder` by default. settings: variables; "" unsets one.
    """
    port, store = free_port(), store or folder / "monitoring.db"
    temporary = folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "MRI_SERVICE": str(packaged(package)),
        "MRI_MONITORING_URL": f"sqlite:///{store}",
        "MRI_WORKERS": str(workers),
        "MRI_ROLLUP_SECONDS": "0",
        "BENTOML_HOME": str(folder / "bentoml"),
        "TMPDIR": str(temporary),
        **settings,
    }
    environment = {name: value for name, value in environment.items() if value}
    serve = [sys.executable, "-m", "bentoml", "serve", *command, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(serve, cwd=working, env=environment, stdout=log, stderr=log, start_new_session=True)
    return Service(process, f"http://127.0.0.1:{port}", folder, store)


def described(package: Path | None = None) -> dict[str, str]:
    """Return what a service serves: {winner, data_version, model_version}. package: as for `start`."""
    served = Package(packaged(package))
    name = served.default
    return {"winner": name, "data_version": served.about["data_version"], "model_version": served.version(name)}


def packaged(package: Path | None) -> Path:
    return (package or Path(os.environ.get("MRI_SERVICE") or SERVICE)).absolute()


def stop(service: Service) -> None:
    """End the service and everything it started: workers lead sessions of their own."""
    service.store.close()
    processes = service.tree() if service.process.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        service.process.wait(END_SECONDS)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    service.process.wait()


@contextlib.contextmanager
def served(folder: Path, workers: int = 2, **options: Any) -> Iterator[Service]:
    """Run a service that answers, until the block ends; options as for `start`.

    Raises UserError with the last line of its log if it doesn't answer.
    """
    service = start(folder, workers, **options)
    try:
        wait_until_ready(service, workers)
        yield service
    finally:
        stop(service)


def wait_until_ready(service: Service, workers: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and service.process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if service.initialised() >= workers and httpx.get(f"{service.address}/readyz").status_code == 200:
                return
        time.sleep(0.2)
    lines = service.log.strip().splitlines() or ["its log is empty"]
    raise UserError(f"the service doesn't start: {lines[-1].removeprefix('error: ')}")
