"""Writes what was answered to the store, beside the answering: no request ever waits for the store or fails with it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from service.monitoring.store import COLUMNS, OF_THE_ROW, Store

# Rows that wait while the store can't be used; beyond, they are counted and dropped.
WAITING = 10_000
# Rows are collected for so many seconds, then written in one transaction.
COLLECT_SECONDS = 0.2
BATCH = 1000
RETRY_SECONDS = 1.0
# For what still waits when the service stops, and the longest that one attempt to write takes: SQLite's patience.
LAST_SECONDS, ATTEMPT_SECONDS = 5.0, 5.0

logger = logging.getLogger("service.monitoring")


class Recorder:
    """Takes rows of `service.monitoring.store.requests` and writes them from a thread of its own.

    lost: how many could not be written so far in this process; the store is told of them as soon as it works again.
    """

    def __init__(self, store: Store, waiting: int = WAITING):
        self.store = store
        self.lost = 0
        self._told = 0
        self._rows: queue.Queue[dict[str, Any]] = queue.Queue(waiting)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._until = float("inf")
        self._failing = False
        self._thread: threading.Thread | None = None

    def put(self, **row: Any) -> None:
        """Take a row; missing columns are empty. Never waits, never raises."""
        self._start()
        try:
            self._rows.put_nowait(dict.fromkeys(COLUMNS[1:]) | row)
        except queue.Full:
            self._lose(1)

    def flush(self, seconds: float) -> bool:
        """Wait until everything taken so far is written; False when that takes longer."""
        until = time.monotonic() + seconds
        while self._rows.unfinished_tasks:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """Write what waits, for LAST_SECONDS at most, and end the thread."""
        self._until = time.monotonic() + LAST_SECONDS
        self._stop.set()
        if self._thread:
            self._thread.join(LAST_SECONDS + ATTEMPT_SECONDS + RETRY_SECONDS)
        self.store.close()

    def _start(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="monitoring", daemon=True)
                    self._thread.start()

    def _lose(self, number: int) -> None:
        with self._lock:
            self.lost += number

    def _run(self) -> None:
        while not (self._stop.is_set() and self._rows.empty()):
            batch = self._collect()
            if batch:
                self._write(batch)
            for _ in batch:
                self._rows.task_done()
            self._tell()

    def _collect(self) -> list[dict[str, Any]]:
        """The next rows: those of COLLECT_SECONDS, BATCH at most. It doesn't wake for each: that would cost answers."""
        self._stop.wait(COLLECT_SECONDS)
        batch: list[dict[str, Any]] = []
        with suppress(queue.Empty):
            while len(batch) < BATCH:
                batch.append(self._rows.get_nowait())
        return batch

    def _write(self, batch: list[dict[str, Any]]) -> None:
        """Write a batch, again and again while the store is locked, full or away; when stopping, not for long."""
        while not self._written(batch):
            if time.monotonic() > self._until:
                lost = len(batch) + self._drop()
                self._lose(lost)
                logger.error("the store can't be used: %d rows are lost", lost)
                return
            self._stop.wait(RETRY_SECONDS)
            time.sleep(RETRY_SECONDS / 10)

    def _drop(self) -> int:
        """Give up all that waits; how many rows that is."""
        count = 0
        with suppress(queue.Empty):
            while True:
                self._rows.get_nowait()
                self._rows.task_done()
                count += 1
        return count

    def _written(self, rows: list[dict[str, Any]]) -> bool:
        """Whether the rows are dealt with: written, or given up because no database would take them."""
        try:
            self.store.insert(rows)
        except (SQLAlchemyError, OSError) as error:
            if not _of_the_row(error):
                self._complain(error)
                return False
            if len(rows) == 1:
                self._lose(1)
                logger.error("a row can't be written (%s)", type(error).__name__)
            for row in rows if len(rows) > 1 else ():  # one bad row must not hold up the others
                self._write([row])
            return True
        if self._failing:
            logger.warning("the store works again")
        self._failing = False
        return True

    def _complain(self, error: Exception) -> None:
        if not self._failing:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            logger.warning("the store can't be used (%s): rows wait, predictions go on", reason)
        self._failing = True

    def _tell(self) -> None:
        """Let the store know how many rows it didn't get."""
        lost = self.lost
        if lost > self._told and not self._failing:
            with suppress(SQLAlchemyError, OSError):
                self.store.count_lost(lost - self._told)
                self._told = lost


def _of_the_row(error: Exception) -> bool:
    """Whether no database would take the row. A database that is away, broken or read-only says so in many ways."""
    unfit = isinstance(error, StatementError) and not isinstance(error, DBAPIError)  # it didn't get to the database
    return unfit or isinstance(error, OF_THE_ROW)
