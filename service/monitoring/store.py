"""The monitoring store: a row for each requested image, in any SQL database.

A row holds the time, the network, the latency, the prediction and how unusual the image was; see `requests`. It holds
no image, file name, tag or address, no text from the client, and nothing that these could be rebuilt from.
The default is SQLite in WAL mode: several workers write while others read.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

metadata = sa.MetaData()

WAITS = 0  # no roll-up has this number
# Errors that are about a row. All others are about the database, and may pass.
ROW_ERRORS = (IntegrityError, DataError)

# Times are seconds since 1970, UTC.
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("request_id", sa.String(48), nullable=False, unique=True),  # random; as answered, with /INDEX in a batch
    sa.Column("time", sa.Float, nullable=False, index=True),  # of the answer
    sa.Column("route", sa.String(32), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("error", sa.String(64)),  # its name, such as unreadable_image
    sa.Column("ms", sa.Float, nullable=False),  # from the request's first byte to the answer's last
    sa.Column("milliseconds", sa.JSON),  # by part
    sa.Column("model", sa.String(64)),
    sa.Column("model_version", sa.String(64)),  # see Package.version; empty in rows of older versions of the service
    sa.Column("data_version", sa.String(64)),
    sa.Column("label", sa.String(64)),
    sa.Column("confidence", sa.Float),  # probability of the label
    sa.Column("probabilities", sa.JSON),
    sa.Column("set", sa.JSON),
    sa.Column("abstain", sa.Boolean),
    sa.Column("reasons", sa.JSON),  # codes
    sa.Column("unlike_training", sa.Float),  # the gate's score over its threshold
    sa.Column("width", sa.Integer),  # as decoded, in pixels
    sa.Column("height", sa.Integer),
    sa.Column("statistics", sa.JSON),  # see mri.inference.drift.STATISTICS
    sa.Column("projection", sa.JSON),  # see mri.inference.drift.project
    sa.Column("feedback", sa.String(64)),  # the confirmed class
    sa.Column("rollup", sa.Integer, index=True),  # which roll-up counts this row
    # Which roll-up counts its feedback, which may arrive much later; WAITS until then; empty without feedback.
    sa.Column("feedback_rollup", sa.Integer, index=True),
    sqlite_autoincrement=True,  # no id is used twice, not even after all rows were deleted
)

# The results of `mri.inference.drift` for consecutive windows of one training's predictions.
windows = sa.Table(
    "windows",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("model_version", sa.String(64)),  # empty in windows of older versions of the service
    sa.Column("data_version", sa.String(64), nullable=False),
    sa.Column("last_row", sa.Integer, nullable=False),
    sa.Column("time", sa.Float, nullable=False, index=True),  # of the last prediction
    sa.Column("strengths", sa.JSON, nullable=False),  # {signal: statistic over threshold}
    sa.Column("alarms", sa.JSON, nullable=False),  # signals
    sa.UniqueConstraint("model", "data_version", "last_row"),
    sqlite_autoincrement=True,
)

# Figures of rows for MLflow; `sent` is the time at which they arrived there.
rollups = sa.Table(
    "rollups",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("sent", sa.Float, index=True),
    sqlite_autoincrement=True,
)

# The worker that does the background work, and until when.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(36), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)

# About the store itself: its id, and how many rows could not be written.
about = sa.Table(
    "about",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(64), nullable=False),
)

COLUMNS = [column.name for column in requests.columns]


class Store:
    """The database at a URL; its tables are created on first use. Safe to call from several threads.

    Methods raise SQLAlchemyError or OSError when the database can't be used; `service.monitoring.recorder` keeps these
    away from predictions.
    """

    def __init__(self, url: str):
        self.url = url
        self._engine = sa.create_engine(url, connect_args={"timeout": 5} if url.startswith("sqlite") else {})
        self._file = self._engine.url.database if self._engine.dialect.name == "sqlite" else None
        self._identity: tuple[int, int] | None = None
        self._created = False
        if self._file:
            sa.event.listen(self._engine, "connect", _set_up_sqlite)

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """Begin a transaction on tables that exist; a file that was deleted or replaced is created again."""
        if self._file and self._created and self._identity != _identity(self._file):
            self._engine.dispose()
            self._created = False
        try:
            if not self._created:
                self._create_tables()
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            if not isinstance(error, ROW_ERRORS):
                self._engine.dispose()  # its connection would stay read-only after the file became writable
            raise

    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows of `requests`, all or none."""
        with self.begin() as connection:
            connection.execute(sa.insert(requests), list(rows))

    def select(self, *columns: str, where: Sequence[Any] = (), newest: int | None = None) -> list[sa.Row]:
        """Return columns of `requests` in the order of their ids, where conditions hold; `newest` limits the number."""
        query = sa.select(*(requests.c[name] for name in columns)).where(*where)
        if newest is not None:
            query = query.order_by(requests.c.id.desc()).limit(newest)
        with self.begin() as connection:
            rows = connection.execute(query if newest is not None else query.order_by(requests.c.id)).all()
        return list(rows[::-1] if newest is not None else rows)

    def feedback(self, request_id: str, label: str) -> bool:
        """Store the confirmed class of a predicted image; return False when there is no such prediction.

        A later correction replaces it, but no second roll-up counts it.
        """
        predicted = (requests.c.request_id == request_id) & requests.c.label.is_not(None)
        values = {"feedback": label, "feedback_rollup": sa.func.coalesce(requests.c.feedback_rollup, WAITS)}
        with self.begin() as connection:
            return connection.execute(sa.update(requests).where(predicted).values(values)).rowcount == 1

    def delete_before(self, before: float) -> int:
        """Delete everything older than a time; return the number of rows of `requests`."""
        with self.begin() as connection:
            connection.execute(sa.delete(windows).where(windows.c.time < before))
            connection.execute(sa.delete(rollups).where(rollups.c.time < before, rollups.c.sent.is_not(None)))
            return connection.execute(sa.delete(requests).where(requests.c.time < before)).rowcount

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a lease for some seconds; return whether `holder` has it now.

        A lease with more time left than any gets was taken before the clock was set back: it counts as expired.
        """
        now = time.time()
        free = (leases.c.holder == holder) | (leases.c.until < now) | (leases.c.until > now + 2 * seconds)
        values = {"holder": holder, "until": now + seconds}
        with self.begin() as connection:
            if connection.execute(sa.update(leases).where(leases.c.name == name, free).values(values)).rowcount:
                return True
            if connection.execute(sa.select(leases.c.name).where(leases.c.name == name)).first():
                return False
        try:
            with self.begin() as connection:
                connection.execute(sa.insert(leases).values(name=name, **values))
        except IntegrityError:  # another worker was faster
            return False
        return True

    def release(self, name: str, holder: str) -> None:
        """Give a lease back."""
        with self.begin() as connection:
            connection.execute(sa.delete(leases).where(leases.c.name == name, leases.c.holder == holder))

    def count_lost(self, number: int) -> None:
        """Add to the number of rows that could not be written."""
        value = sa.cast(sa.cast(about.c.value, sa.Integer) + number, sa.String(64))
        with self.begin() as connection:
            connection.execute(sa.update(about).where(about.c.name == "lost").values(value=value))

    def lost(self) -> int:
        """Return the number of rows that could not be written."""
        return int(self._about("lost"))

    def id(self) -> str:
        """Return the store's id, by which MLflow tells stores apart."""
        return self._about("store")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _about(self, name: str) -> str:
        with self.begin() as connection:
            return connection.execute(sa.select(about.c.value).where(about.c.name == name)).scalar_one()

    def _create_tables(self) -> None:
        if self._file:
            _create_file(Path(self._file))
        errors: set[str] = set()
        while True:
            try:
                metadata.create_all(self._engine)
                self._add_columns()
                break
            except DBAPIError as error:
                # Another worker may have created a table after this one looked for it, and each of the next as well;
                # the error depends on the database. One that comes twice has another cause.
                if str(error) in errors:
                    raise
                errors.add(str(error))
        for name, value in (("store", str(uuid.uuid4())), ("lost", "0")):
            with self._engine.begin() as connection:
                exists = connection.execute(sa.select(about.c.name).where(about.c.name == name)).first()
            if exists:
                continue
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(about).values(name=name, value=value))
            except IntegrityError:  # another worker was faster
                pass
        self._identity = _identity(self._file) if self._file else None
        self._created = True

    def _add_columns(self) -> None:
        """Add the columns, with their indexes, that tables of older versions of the service lack."""
        for table in (requests, windows):
            existing = {column["name"] for column in sa.inspect(self._engine).get_columns(table.name)}
            for column in table.columns:
                if column.name not in existing:
                    kind = column.type.compile(self._engine.dialect)
                    with self._engine.begin() as connection:
                        connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))
            for index in table.indexes:
                index.create(self._engine, checkfirst=True)


def _create_file(file: Path) -> None:
    """Create an empty database file, one worker at a time. Files that a deleted one left must not get into it."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not file.exists():
            for suffix in ("-wal", "-shm"):
                Path(f"{file}{suffix}").unlink(missing_ok=True)
            file.touch(mode=0o600)
    finally:
        os.close(folder)


def _identity(file: str) -> tuple[int, int] | None:
    """Return what identifies the file at a path; None where there is none."""
    try:
        status = os.stat(file)  # noqa: PTH116 - called for every transaction
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_up_sqlite(connection: Any, _: Any) -> None:
    """Allow readers beside one writer, which waits for others; a crash of the machine may lose the last rows."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
