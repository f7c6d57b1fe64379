"""The background work of the monitoring, in one of the workers: retention, drift, roll-ups to MLflow."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from mri.inference.drift import Reference
from service.monitoring import drift, rollup
from service.monitoring.store import Store
from service.settings import Settings

TICK_SECONDS = 5.0
LEASE_SECONDS = 60.0
# A roll-up that takes longer hangs: MLflow gives up on a server that is away sooner.
ROLLUP_TIMEOUT = 300.0
ROOT = Path(__file__).parents[2]

logger = logging.getLogger("service.monitoring")


class Background(threading.Thread):
    """A thread that every worker starts; only the one that holds the store's lease works."""

    def __init__(self, store: Store, settings: Settings, reference: Reference | None, classes: list[str]):
        super().__init__(name="monitoring-background", daemon=True)
        self._store, self._settings, self._reference, self._classes = store, settings, reference, classes
        self._id = str(uuid.uuid4())
        self._stopping = threading.Event()
        self._failed: set[str] = set()
        self._rollup: subprocess.Popen[bytes] | None = None
        self._rollup_started = time.monotonic()  # the first roll-up starts after one interval

    def run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            self._tick()
        self._end()

    def stop(self) -> None:
        """Let the thread end soon; another worker takes over."""
        self._stopping.set()

    def _tick(self) -> None:
        try:
            if self._store.lease("background", self._id, LEASE_SECONDS):
                self._work()
        except (SQLAlchemyError, OSError) as error:
            logger.debug("the store can't be used: %s", error)

    def _work(self) -> None:
        self._try("retention", self._delete_old_rows)
        self._try("drift", self._compare_windows)
        self._try("roll-ups", self._roll_up)

    def _try(self, name: str, job: Callable[[], None]) -> None:
        """Run a job; when it fails, log it once, so that the others go on and it is tried again with the next tick."""
        try:
            job()
            self._failed.discard(name)
        except Exception:
            if name not in self._failed:
                logger.exception("%s: failed, and is tried again every %g seconds", name, TICK_SECONDS)
            self._failed.add(name)

    def _delete_old_rows(self) -> None:
        self._store.delete_before(time.time() - 86400 * self._settings.monitoring_days)

    def _compare_windows(self) -> None:
        if self._reference:
            drift.compare_new(self._store, self._reference, self._classes)

    def _roll_up(self) -> None:
        """Start the next roll-up when it is due; end a running one that hangs."""
        running = time.monotonic() - self._rollup_started
        if self._rollup is not None:
            if self._rollup.poll() is None and running > ROLLUP_TIMEOUT:
                self._rollup.kill()
                self._rollup.wait()
            if self._rollup.poll() is not None:
                self._rollup = None
        elif 0 < self._settings.rollup_seconds <= running and rollup.waiting(self._store):
            self._rollup_started = time.monotonic()
            environment = {
                **os.environ,
                "MRI_MONITORING_URL": self._store.url,
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            }
            command = [sys.executable, "-m", "service.monitoring"]
            quiet = subprocess.DEVNULL
            self._rollup = subprocess.Popen(command, env=environment, stdin=quiet, stdout=quiet)

    def _end(self) -> None:
        if self._rollup is not None:
            self._rollup.kill()
            self._rollup.wait()
        try:
            self._store.release("background", self._id)
        except (SQLAlchemyError, OSError):
            logger.debug("the lease can't be released: it expires")
