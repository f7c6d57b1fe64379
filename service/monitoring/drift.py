"""Compare windows of recorded predictions with the reference that the pipeline fitted."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mri.inference.drift import Observations, Reference, alarms
from mri.inference.package import REFERENCE, Package
from service.monitoring.store import Store, requests, windows

COLUMNS = ("id", "time", "label", "confidence", "statistics", "projection")
# What identifies a training; a reference is compared only with rows and windows of its own.
TRAINING = ("model", "data_version", "model_version")


def load(package: Package) -> Reference | None:
    """Return the packaged reference; None where there is none, or where its network isn't packaged.

    Raises UserError when it is damaged.
    """
    if not (package.folder / REFERENCE).exists():
        return None
    reference = Reference.load(package.folder / REFERENCE)
    if (model := reference.about.get("model", "")) not in package.names:
        return None
    return replace(reference, about=reference.about | {"model_version": package.version(model)})


def compare_new(store: Store, reference: Reference, classes: list[str]) -> int:
    """Compare every full window of predictions that hasn't been compared; return how many there were."""
    count = 0
    while len(rows := _next_rows(store, reference)) == reference.window:
        strengths = reference.strengths(_observations(rows, classes))
        previous = [window["strengths"] for window in _windows(store, reference, 1)]
        row = {
            **{name: reference.about[name] for name in TRAINING},
            "last_row": rows[-1].id,
            "time": rows[-1].time,
            "strengths": strengths,
            "alarms": alarms([*previous, strengths])[-1],
        }
        try:
            with store.begin() as connection:
                connection.execute(sa.insert(windows).values(**row))
        except IntegrityError:  # another worker was faster
            return count
        count += 1
    return count


def summary(store: Store, reference: Reference | None, since: float, until: float) -> dict[str, Any] | None:
    """Return the dashboard's figures: {model, window, waiting, alarms, windows: [{time, strengths, alarms}]}.

    window: predictions in a window. waiting: those of the next window so far. alarms: signals above their threshold in
    both of the last two windows, whenever these were. None without a reference.
    """
    if reference is None:
        return None
    last = _windows(store, reference, 1)
    inside = (windows.c.time >= since) & (windows.c.time <= until)
    return {
        "model": reference.about["model"],
        "window": reference.window,
        "waiting": len(_next_rows(store, reference)),
        "alarms": last[0]["alarms"] if last else [],
        "windows": _windows(store, reference, 500, inside),
    }


def _next_rows(store: Store, reference: Reference) -> list[sa.Row]:
    """Return the oldest predictions that are in no window yet, one window's at most.

    Rows of a network that wasn't the winner at the time have no projection, so they can't be compared.
    """
    last = sa.select(sa.func.coalesce(sa.func.max(windows.c.last_row), 0)).where(*_same_training(windows, reference))
    query = (
        sa.select(*(requests.c[name] for name in COLUMNS))
        .where(
            requests.c.id > last.scalar_subquery(), *_same_training(requests, reference), requests.c.label.is_not(None)
        )
        .where(sa.cast(requests.c.projection, sa.String) != "[]")  # in SQL, as there may be very many
        .order_by(requests.c.id)
        .execution_options(yield_per=reference.window)
    )
    length = reference.observed.projection.shape[1]
    with store.begin() as connection:
        rows = (row for row in connection.execute(query) if len(row.projection or ()) == length)
        return list(islice(rows, reference.window))


def _same_training(table: sa.Table, reference: Reference) -> list[Any]:
    """Return the conditions that choose the rows of the reference's training."""
    return [table.c[name] == reference.about[name] for name in TRAINING]


def _windows(store: Store, reference: Reference, newest: int, *conditions: Any) -> list[dict[str, Any]]:
    """Return the newest windows, oldest first."""
    query = sa.select(windows.c.time, windows.c.strengths, windows.c.alarms)
    query = query.where(*_same_training(windows, reference), *conditions)
    with store.begin() as connection:
        rows = connection.execute(query.order_by(windows.c.id.desc()).limit(newest)).all()
    return [dict(row._mapping) for row in reversed(rows)]


def _observations(rows: list[sa.Row], classes: list[str]) -> Observations:
    return Observations(
        np.array([classes.index(row.label) for row in rows]),
        np.array([row.confidence for row in rows], np.float32),
        np.array([row.statistics for row in rows], np.float32),
        np.array([row.projection for row in rows], np.float32),
    )
