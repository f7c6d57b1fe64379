"""Compares what was recorded, window by window, with the reference that the pipeline fitted."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mri.inference.drift import Reference, Sample, alarms
from mri.inference.package import REFERENCE, Package
from service.monitoring.store import Store, requests, windows

NEEDED = ("id", "time", "label", "confidence", "statistics", "projection")
# What a reference is about; rows and windows of anything else aren't compared with it.
SAME = ("model", "data_version", "model_version")


def load(package: Package) -> Reference | None:
    """The packaged reference, about the packaged training; None where there is none of a network in the package.

    Raises UserError when it is damaged.
    """
    if not (package.folder / REFERENCE).exists():
        return None
    reference = Reference.load(package.folder / REFERENCE)
    if (model := reference.about.get("model", "")) not in package.names:
        return None
    return replace(reference, about=reference.about | {"model_version": package.version(model)})


def compare_new(store: Store, reference: Reference, classes: list[str]) -> int:
    """Compare every full window of predictions that hasn't been compared; how many there were."""
    count = 0
    while len(rows := _uncompared(store, reference)) == reference.window:
        strengths = reference.strengths(_sample(rows, classes))
        before = [window["strengths"] for window in _compared(store, reference, 1)]
        row = {
            **{name: reference.about[name] for name in SAME},
            "last_row": rows[-1].id,
            "time": rows[-1].time,
            "strengths": strengths,
            "alarms": alarms([*before, strengths])[-1],
        }
        try:
            with store.begin() as connection:
                connection.execute(sa.insert(windows).values(**row))
        except IntegrityError:  # another worker has just done the same
            return count
        count += 1
    return count


def summary(store: Store, reference: Reference | None, since: float, until: float) -> dict[str, Any] | None:
    """What the dashboard shows of drift: {model, window, waiting, alarms, windows: [{time, strengths, alarms}]}.

    waiting: predictions of the next window so far. alarms: signals that exceeded their threshold in the last two
    windows of all. None without a reference.
    """
    if reference is None:
        return None
    last = _compared(store, reference, 1)
    inside = (windows.c.time >= since) & (windows.c.time <= until)
    return {
        "model": reference.about["model"],
        "window": reference.window,
        "waiting": len(_uncompared(store, reference)),
        "alarms": last[0]["alarms"] if last else [],
        "windows": _compared(store, reference, 500, inside),
    }


def _uncompared(store: Store, reference: Reference) -> list[sa.Row]:
    """The oldest predictions that are in no window yet, one window's at most.

    A network that wasn't the winner when it was asked has rows without a projection: they can't be compared.
    """
    last = sa.select(sa.func.coalesce(sa.func.max(windows.c.last_row), 0)).where(*_of(windows, reference))
    query = (
        sa.select(*(requests.c[name] for name in NEEDED))
        .where(requests.c.id > last.scalar_subquery(), *_of(requests, reference), requests.c.label.is_not(None))
        .where(sa.cast(requests.c.projection, sa.String) != "[]")  # there may be very many: the database skips them
        .order_by(requests.c.id)
        .execution_options(yield_per=reference.window)
    )
    length = reference.sample.projection.shape[1]
    with store.begin() as connection:
        rows = (row for row in connection.execute(query) if len(row.projection or ()) == length)
        return list(islice(rows, reference.window))


def _of(table: sa.Table, reference: Reference) -> list[Any]:
    """Conditions: rows of the training that the reference is of."""
    return [table.c[name] == reference.about[name] for name in SAME]


def _compared(store: Store, reference: Reference, newest: int, *conditions: Any) -> list[dict[str, Any]]:
    """The newest windows, oldest first."""
    query = sa.select(windows.c.time, windows.c.strengths, windows.c.alarms)
    query = query.where(*_of(windows, reference), *conditions)
    with store.begin() as connection:
        found = connection.execute(query.order_by(windows.c.id.desc()).limit(newest)).all()
    return [dict(row._mapping) for row in reversed(found)]


def _sample(rows: list[sa.Row], classes: list[str]) -> Sample:
    return Sample(
        np.array([classes.index(row.label) for row in rows]),
        np.array([row.confidence for row in rows], np.float32),
        np.array([row.statistics for row in rows], np.float32),
        np.array([row.projection for row in rows], np.float32),
    )
