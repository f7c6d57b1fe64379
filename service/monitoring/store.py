"""Where the service keeps what it answered: one row per image it was asked about, in any SQL database.

A row says when, which network, how long, what it predicted and how strange the image was; see `requests`. It holds no
image, file name, tag, address or text of the person who asked, and nothing that could be turned back into one.
SQLite in WAL mode by default: several workers write, and others read meanwhile.
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
# What a database says of a row; anything else it says is of the database, and may pass.
OF_THE_ROW = (IntegrityError, DataError)

# Times are seconds since 1970, UTC.
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("request_id", sa.String(48), nullable=False, unique=True),  # random; the answer's, with /INDEX in a batch
    sa.Column("time", sa.Float, nullable=False, index=True),  # of the answer
    sa.Column("route", sa.String(32), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("error", sa.String(64)),  # the answer's code, such as unreadable_image
    sa.Column("ms", sa.Float, nullable=False),  # from the request's first byte to the answer's last
    sa.Column("milliseconds", sa.JSON),  # by part
    sa.Column("model", sa.String(64)),
    sa.Column(
        "model_version", sa.String(64)
    ),  # see mri.inference.package.Package.version; empty in rows of before there was one
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
    # Which one counts its feedback, which may come much later; WAITS until then; empty without any.
    sa.Column("feedback_rollup", sa.Integer, index=True),
    sqlite_autoincrement=True,  # no number is given twice, not even after all rows were deleted
)

# What `mri.inference.drift` found in consecutive windows of one training's predictions.
windows = sa.Table(
    "windows",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("model_version", sa.String(64)),  # empty in windows of before there was one
    sa.Column("data_version", sa.String(64), nullable=False),
    sa.Column("last_row", sa.Integer, nullable=False),
    sa.Column("time", sa.Float, nullable=False, index=True),  # of the last prediction
    sa.Column("strengths", sa.JSON, nullable=False),  # {signal: statistic over threshold}
    sa.Column("alarms", sa.JSON, nullable=False),  # signals
    sa.UniqueConstraint("model", "data_version", "last_row"),
    sqlite_autoincrement=True,
)

# Figures of rows on their way to MLflow; `sent` is empty until they have arrived.
rollups = sa.Table(
    "rollups",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("sent", sa.Float, index=True),
    sqlite_autoincrement=True,
)

# Which worker does the background work, until when.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(36), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)

# Text of the store itself: its id, and how many rows could not be written.
about = sa.Table(
    "about",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(64), nullable=False),
)

COLUMNS = [column.name for column in requests.columns]


class Store:
    """The database behind a URL; tables are made when they are first needed. Safe to call from several threads.

    Methods raise SQLAlchemyError or OSError when the database can't be used; `service.monitoring.recorder` keeps those
    away from predictions.
    """

    def __init__(self, url: str):
        self.url = url
        self._engine = sa.create_engine(url, connect_args={"timeout": 5} if url.startswith("sqlite") else {})
        self._file = self._engine.url.database if self._engine.dialect.name == "sqlite" else None
        self._identity: tuple[int, int] | None = None
        self._made = False
        if self._file:
            sa.event.listen(self._engine, "connect", _set_up_sqlite)

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction, on tables that exist: a file that was deleted or replaced meanwhile is made anew."""
        if self._file and self._made and self._identity != _identity(self._file):
            self._engine.dispose()
            self._made = False
        try:
            if not self._made:
                self._make_tables()
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            if not isinstance(error, OF_THE_ROW):
                self._engine.dispose()  # a connection to a file that was read-only stays so when the file no longer is
            raise

    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows of `requests`, all or none."""
        with self.begin() as connection:
            connection.execute(sa.insert(requests), list(rows))

    def select(self, *columns: str, where: Sequence[Any] = (), newest: int | None = None) -> list[sa.Row]:
        """These columns of `requests` in the order of their ids, where conditions hold; only the newest so many."""
        query = sa.select(*(requests.c[name] for name in columns)).where(*where)
        if newest is not None:
            query = query.order_by(requests.c.id.desc()).limit(newest)
        with self.begin() as connection:
            found = connection.execute(query if newest is not None else query.order_by(requests.c.id)).all()
        return list(found[::-1] if newest is not None else found)

    def feedback(self, request_id: str, label: str) -> bool:
        """Note the confirmed class of an answered image; False when there is no such answer.

        A later correction changes it, but is in no second roll-up.
        """
        answered = (requests.c.request_id == request_id) & requests.c.label.is_not(None)
        noted = {"feedback": label, "feedback_rollup": sa.func.coalesce(requests.c.feedback_rollup, WAITS)}
        with self.begin() as connection:
            return connection.execute(sa.update(requests).where(answered).values(noted)).rowcount == 1

    def forget(self, before: float) -> int:
        """Delete everything older than a time; how many rows of `requests` that were."""
        with self.begin() as connection:
            connection.execute(sa.delete(windows).where(windows.c.time < before))
            connection.execute(sa.delete(rollups).where(rollups.c.time < before, rollups.c.sent.is_not(None)))
            return connection.execute(sa.delete(requests).where(requests.c.time < before)).rowcount

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Whether `holder` has the lease of this name for so many seconds from now: taken anew, kept or renewed.

        A lease that runs for longer than any is given was given before the clock went back: it counts as over.
        """
        now = time.time()
        free = (leases.c.holder == holder) | (leases.c.until < now) | (leases.c.until > now + 2 * seconds)
        mine = {"holder": holder, "until": now + seconds}
        with self.begin() as connection:
            if connection.execute(sa.update(leases).where(leases.c.name == name, free).values(mine)).rowcount:
                return True
            if connection.execute(sa.select(leases.c.name).where(leases.c.name == name)).first():
                return False
        try:
            with self.begin() as connection:
                connection.execute(sa.insert(leases).values(name=name, **mine))
        except IntegrityError:  # another worker was faster
            return False
        return True

    def release(self, name: str, holder: str) -> None:
        with self.begin() as connection:
            connection.execute(sa.delete(leases).where(leases.c.name == name, leases.c.holder == holder))

    def count_lost(self, number: int) -> None:
        """Add to the number of rows that could not be written."""
        value = sa.cast(sa.cast(about.c.value, sa.Integer) + number, sa.String(64))
        with self.begin() as connection:
            connection.execute(sa.update(about).where(about.c.name == "lost").values(value=value))

    def lost(self) -> int:
        return int(self._about("lost"))

    def id(self) -> str:
        """Names this store, for those who collect from several."""
        return self._about("store")

    def close(self) -> None:
        self._engine.dispose()

    def _about(self, name: str) -> str:
        with self.begin() as connection:
            return connection.execute(sa.select(about.c.value).where(about.c.name == name)).scalar_one()

    def _make_tables(self) -> None:
        if self._file:
            _make_file(Path(self._file))
        said: set[str] = set()
        while True:
            try:
                metadata.create_all(self._engine)
                self._add_columns()
                break
            except DBAPIError as error:
                # Another worker made one after it was looked for, and may do so with each that follows; what that is
                # called depends on the database. An error that comes again is of another kind.
                if str(error) in said:
                    raise
                said.add(str(error))
        for name, value in (("store", str(uuid.uuid4())), ("lost", "0")):
            with self._engine.begin() as connection:
                known = connection.execute(sa.select(about.c.name).where(about.c.name == name)).first()
            if known:
                continue
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(about).values(name=name, value=value))
            except IntegrityError:  # another worker was faster
                pass
        self._identity = _identity(self._file) if self._file else None
        self._made = True

    def _add_columns(self) -> None:
        """Give tables the columns, and the indexes of these, that they lack because an older version made them."""
        for table in (requests, windows):
            known = {column["name"] for column in sa.inspect(self._engine).get_columns(table.name)}
            for column in table.columns:
                if column.name not in known:
                    kind = column.type.compile(self._engine.dialect)
                    with self._engine.begin() as connection:
                        connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))
            for index in table.indexes:
                index.create(self._engine, checkfirst=True)


def _make_file(file: Path) -> None:
    """Create an empty database, one worker at a time. What a deleted one left beside it must not get into the new."""
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
    """Which file a path leads to; None when it leads nowhere."""
    try:
        status = os.stat(file)  # noqa: PTH116 - called for every transaction
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_up_sqlite(connection: Any, _: Any) -> None:
    """Readers and one writer at a time, who waits for others; a crash of the machine may cost the last moments."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
