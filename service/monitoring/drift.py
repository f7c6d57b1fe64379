"""Compares what was recorded, window by window, with the reference that the pipeline fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mri.drift import Reference, Sample, alarms
from mri.paths import SERVICE
from mri.serving import REFERENCE
from service.monitoring.store import Store, requests, windows

NEEDED = ("id", "time", "label", "confidence", "statistics", "projection")


def load(folder: Path = SERVICE) -> Reference | None:
    """The packaged reference; None where a package has none. Raises UserError when it is damaged."""
    return Reference.load(folder / REFERENCE) if (folder / REFERENCE).exists() else None


def compare_new(store: Store, reference: Reference, classes: list[str]) -> int:
    """Compare every full window of predictions that hasn't been compared; how many there were."""
    count = 0
    while len(rows := _uncompared(store, reference)) == reference.window:
        strengths = reference.strengths(_sample(rows, classes))
        before = [window["strengths"] for window in _compared(store, reference, 1)]
        row = {
            "model": reference.about["model"],
            "data_version": reference.about["data_version"],
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
    """The oldest predictions that are in no window yet, one window's at most."""
    known = (windows.c.model == reference.about["model"]) & (windows.c.data_version == reference.about["data_version"])
    last = sa.select(sa.func.coalesce(sa.func.max(windows.c.last_row), 0)).where(known).scalar_subquery()
    query = (
        sa.select(*(requests.c[name] for name in NEEDED))
        .where(requests.c.id > last, *_by(reference), requests.c.label.is_not(None))
        .order_by(requests.c.id)
        .limit(reference.window)
    )
    with store.begin() as connection:
        return list(connection.execute(query).all())


def _by(reference: Reference) -> tuple[Any, Any]:
    """Conditions: predictions of the network that the reference is of."""
    return (
        requests.c.model == reference.about["model"],
        requests.c.data_version == reference.about["data_version"],
    )


def _compared(store: Store, reference: Reference, newest: int, *conditions: Any) -> list[dict[str, Any]]:
    """The newest windows, oldest first."""
    known = (windows.c.model == reference.about["model"]) & (windows.c.data_version == reference.about["data_version"])
    query = sa.select(windows.c.time, windows.c.strengths, windows.c.alarms).where(known, *conditions)
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
