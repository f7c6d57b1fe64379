"""Write rows to the store from a thread of its own: no request ever waits for the store, or fails because of it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from service.monitoring.store import COLUMNS, ROW_ERRORS, Store

# Rows that may wait while the store can't be used; more are dropped and counted.
MAX_WAITING = 10_000
# Rows are collected for so many seconds, then written in one transaction.
COLLECT_SECONDS = 0.2
BATCH = 1000
RETRY_SECONDS = 1.0
# How long rows that wait may take when the service stops; and one attempt to write, at most: SQLite's timeout.
LAST_SECONDS, ATTEMPT_SECONDS = 5.0, 5.0

logger = logging.getLogger("service.monitoring")


class Recorder:
    """Take rows of `service.monitoring.store.requests` and write them from a thread.

    lost: rows that this process could not write so far; the store gets their number as soon as it works again.
    """

    def __init__(self, store: Store, max_waiting: int = MAX_WAITING):
        self.store = store
        self.lost = 0
        self._reported = 0
        self._rows: queue.Queue[dict[str, Any]] = queue.Queue(max_waiting)
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
        """Wait until all rows taken so far are written; return False when that takes longer."""
        until = time.monotonic() + seconds
        while self._rows.unfinished_tasks:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """Write the rows that wait, for LAST_SECONDS at most, and end the thread."""
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
            self._report_lost()

    def _collect(self) -> list[dict[str, Any]]:
        """Return the rows of COLLECT_SECONDS, BATCH at most. Waking for each would slow predictions down."""
        self._stop.wait(COLLECT_SECONDS)
        batch: list[dict[str, Any]] = []
        with suppress(queue.Empty):
            while len(batch) < BATCH:
                batch.append(self._rows.get_nowait())
        return batch

    def _write(self, batch: list[dict[str, Any]]) -> None:
        """Write a batch; try again while the store is locked, full or away, but not for long when stopping."""
        while not self._try_to_write(batch):
            if time.monotonic() > self._until:
                lost = len(batch) + self._drop()
                self._lose(lost)
                logger.error("the store can't be used: %d rows are lost", lost)
                return
            self._stop.wait(RETRY_SECONDS)
            time.sleep(RETRY_SECONDS / 10)

    def _drop(self) -> int:
        """Drop all rows that wait; return their number."""
        count = 0
        with suppress(queue.Empty):
            while True:
                self._rows.get_nowait()
                self._rows.task_done()
                count += 1
        return count

    def _try_to_write(self, rows: list[dict[str, Any]]) -> bool:
        """Return whether the rows are done: written, or dropped because no database would take them."""
        try:
            self.store.insert(rows)
        except (SQLAlchemyError, OSError) as error:
            if not _is_about_row(error):
                self._warn(error)
                return False
            if len(rows) == 1:
                self._lose(1)
                logger.error("a row can't be written (%s)", type(error).__name__)
            for row in rows if len(rows) > 1 else ():  # one bad row must not keep the others from being written
                self._write([row])
            return True
        if self._failing:
            logger.warning("the store works again")
        self._failing = False
        return True

    def _warn(self, error: Exception) -> None:
        if not self._failing:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            logger.warning("the store can't be used (%s): rows wait, predictions go on", reason)
        self._failing = True

    def _report_lost(self) -> None:
        """Add the number of lost rows to the store's."""
        lost = self.lost
        if lost > self._reported and not self._failing:
            with suppress(SQLAlchemyError, OSError):
                self.store.count_lost(lost - self._reported)
                self._reported = lost


def _is_about_row(error: Exception) -> bool:
    """Return whether an error is about a row. A database that is away, broken or read-only raises many others."""
    not_sent = isinstance(error, StatementError) and not isinstance(error, DBAPIError)  # a value that no column takes
    return not_sent or isinstance(error, ROW_ERRORS)
