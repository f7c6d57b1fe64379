"""Figures of the rows of a stretch of time: counts, rates, latencies, predictions, accuracy, recent errors.

The database counts, in SQL that all databases have. Quantiles come from a sample of bounded size, spread over the whole
stretch, so a summary of a busy store takes little time and memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from mri.base.intervals import wilson
from service.monitoring.store import Store, requests

POINTS = 60  # of every line on the dashboard
# About how many predictions are read for the quantiles of one summary; as many of each network and each point.
SAMPLE = 20_000
RECENT_ERRORS = 20
CONFIDENCE_BINS = 10
# Multiples of the golden ratio spread evenly over a circle, whatever rows are chosen: a sample by ids is balanced where
# networks take turns, and misses no stretch. The numbers are small enough for products that are 32-bit integers.
CIRCLE, GOLDEN = 10_007, 6185

Conditions = Sequence[Any]


class Sampled(NamedTuple):
    """One prediction of a sample. weight: how many predictions it represents."""

    stretch: int
    model: str
    ms: float
    confidence: float | None
    weight: float


def summary(store: Store, since: float, until: float, model: str = "") -> dict[str, Any]:
    """Return figures of the requests between two times (seconds since 1970), of one network or of all.

    {since, until, model, rows, totals, series, models, confidence, recent_errors}; `totals`, each part of `series` and
    of `models` have the form of `figures`.
    """
    inside = [requests.c.time >= since, requests.c.time <= until]
    of_model = [*inside, requests.c.model == model] if model else inside
    starts = np.linspace(since, until, POINTS, endpoint=False).tolist()
    with store.begin() as connection:
        counted = counts(connection, inside, starts[1:])
        sampled = sample(connection, inside, counted, starts[1:])
        confidence = _confidence(connection, of_model)
        errors = _recent_errors(connection, of_model)
    named = by_model(counted, sampled)
    if model:
        counted, sampled = ([row for row in rows if row.model == model] for rows in (counted, sampled))
    totals = figures(counted, sampled)
    return {
        "since": since,
        "until": until,
        "model": model or None,
        "rows": totals["requests"],
        "totals": totals,
        "series": _series(counted, sampled, starts),
        "models": named,
        "confidence": confidence,
        "recent_errors": errors,
    }


def counts(connection: sa.Connection, where: Conditions, edges: Sequence[float] = ()) -> list[Any]:
    """Return the number of rows of each kind: (stretch, model, status, label, abstain, confirmed, number).

    edges: ascending times between the stretches. confirmed: 1 where feedback agrees, 0 where not, None without any.
    """
    confirmed = sa.case((requests.c.feedback.is_(None), None), (requests.c.feedback == requests.c.label, 1), else_=0)
    kind = (requests.c[name] for name in ("model", "status", "label", "abstain"))
    stretch = _pick(requests.c.time, edges, range(len(edges) + 1))
    # Not every database can group by a name from its SELECT, so there are two of them.
    rows = sa.select(stretch.label("stretch"), *kind, confirmed.label("confirmed")).where(*where).subquery()
    return list(connection.execute(sa.select(rows, sa.func.count().label("number")).group_by(*rows.c)).all())


def sample(
    connection: sa.Connection, where: Conditions, counted: list[Any], edges: Sequence[float] = ()
) -> list[Sampled]:
    """Return all predictions where there are few, and an evenly spread sample where there are many."""
    total: Counter[tuple[int, str]] = Counter()
    for row in counted:
        if row.label is not None:
            total[row.stretch, row.model] += row.number
    most = SAMPLE / max(1, len(total))
    stretches = range(len(edges) + 1)
    shares = [
        (requests.c.model == name, _pick(requests.c.time, edges, [_share(total[i, name], most) for i in stretches]))
        for name in {name for _, name in total}
    ]
    if not shares:
        return []
    stretch = _pick(requests.c.time, edges, stretches).label("stretch")
    query = sa.select(stretch, requests.c.model, requests.c.ms, requests.c.confidence).where(*where)
    place = requests.c.id % CIRCLE * GOLDEN % CIRCLE
    query = query.where(requests.c.label.is_not(None), place < sa.case(*shares, else_=0))
    rows = connection.execute(query).all()
    read = Counter((row.stretch, row.model) for row in rows)
    return [
        Sampled(
            row.stretch,
            row.model,
            row.ms,
            row.confidence,
            total[row.stretch, row.model] / read[row.stretch, row.model],
        )
        for row in rows
    ]


def _share(number: int, most: float) -> int:
    """Return the part of the circle that leaves about `most` of `number` rows."""
    return CIRCLE if number <= most else int(max(1, CIRCLE * most / number))


def _pick(column: Any, edges: Sequence[float], values: Sequence[int]) -> Any:
    """Return, as SQL, the value of the stretch that a column is in; there is one value more than edges.

    It bisects by comparisons, which all databases do alike; they differ in how they round numbers to integers.
    """
    if not edges:
        return sa.literal_column(str(values[0]), sa.Integer)
    half = len(edges) // 2
    below = _pick(column, edges[:half], values[: half + 1])
    return sa.case((column < edges[half], below), else_=_pick(column, edges[half + 1 :], values[half + 1 :]))


def by_model(counted: Iterable[Any], sampled: Iterable[Sampled]) -> dict[str, dict[str, Any]]:
    """Return `figures` of each network."""
    parts: dict[str, tuple[list[Any], list[Sampled]]] = defaultdict(lambda: ([], []))
    for place, rows in enumerate((counted, sampled)):
        for row in rows:
            parts[row.model or ""][place].append(row)
    return {name: figures(*parts[name]) for name in sorted(parts) if name}


def figures(counted: list[Any], sampled: list[Sampled]) -> dict[str, Any]:
    """Return the figures of `counts` and their `sample`.

    {requests, predictions, errors, refused, error_rate, abstained, abstention_rate, latency_ms, confidence, classes,
    accuracy}.

    errors: answers 5xx; refused: answers 4xx (the request was wrong). The error rate is both over requests.
    latency_ms: {p50, p95, p99} of predictions. confidence: {p10, p50, p90}. accuracy: {value, low, high, n} of the
    predictions with feedback. Figures without rows are None.
    """
    predictions = [row for row in counted if row.label is not None]
    total, predicted = _number(counted), _number(predictions)
    errors = _number(row for row in counted if row.status >= 500)
    refused = _number(row for row in counted if 400 <= row.status < 500)
    abstained = _number(row for row in predictions if row.abstain)
    classes: Counter[str] = Counter()
    for row in predictions:
        classes[row.label] += row.number
    sure = [row for row in sampled if row.confidence is not None]
    return {
        "requests": total,
        "predictions": predicted,
        "errors": errors,
        "refused": refused,
        "error_rate": (errors + refused) / total if total else None,
        "abstained": abstained,
        "abstention_rate": abstained / predicted if predicted else None,
        "latency_ms": _quantiles([row.ms for row in sampled], [row.weight for row in sampled], (50, 95, 99)),
        "confidence": _quantiles([row.confidence for row in sure], [row.weight for row in sure], (10, 50, 90)),
        "classes": dict(sorted(classes.items())),
        "accuracy": accuracy(predictions),
    }


def accuracy(counted: list[Any]) -> dict[str, Any] | None:
    """Return the accuracy of `counts`, {value, low, high, n}; None without feedback."""
    confirmed = _number(row for row in counted if row.confirmed is not None)
    right = _number(row for row in counted if row.confirmed)
    return wilson(right, confirmed) | {"n": confirmed} if confirmed else None


def _number(counted: Iterable[Any]) -> int:
    return sum(row.number for row in counted)


def _quantiles(values: list[Any], weights: list[float], percent: tuple[int, ...]) -> dict[str, float] | None:
    """Return np.percentile of the values repeated `weight` times, without repeating them."""
    if not values:
        return None
    order = np.argsort(values)
    ordered, ends = np.array(values)[order], np.cumsum(np.array(weights)[order])
    at = (ends[-1] - 1) * np.array(percent) / 100
    low, high = (
        ordered[np.minimum(np.searchsorted(ends, ends_at, side="right"), len(ordered) - 1)]
        for ends_at in (np.floor(at), np.ceil(at))
    )
    quantiles = low + (high - low) * (at % 1)
    return {f"p{share}": round(float(value), 4) for share, value in zip(percent, quantiles, strict=True)}


def _series(counted: list[Any], sampled: list[Sampled], starts: list[float]) -> list[dict[str, Any]]:
    """Return figures of equal stretches of time, each with its start."""
    parts: list[tuple[list[Any], list[Sampled]]] = [([], []) for _ in starts]
    for row in counted:
        parts[row.stretch][0].append(row)
    for one in sampled:
        parts[one.stretch][1].append(one)
    return [{"time": start, **figures(*part)} for start, part in zip(starts, parts, strict=True)]


def _confidence(connection: sa.Connection, where: Conditions) -> list[int]:
    """Return the numbers of predictions with a confidence up to 0.1, 0.2, ... 1."""
    edges = [i / CONFIDENCE_BINS for i in range(1, CONFIDENCE_BINS)]
    tenth = _pick(requests.c.confidence, edges, range(CONFIDENCE_BINS)).label("tenth")
    rows = sa.select(tenth).where(*where, requests.c.confidence.is_not(None)).subquery()
    counted = connection.execute(sa.select(rows.c.tenth, sa.func.count()).group_by(rows.c.tenth)).all()
    numbers: dict[int, int] = dict(tuple(row) for row in counted)
    return [numbers.get(i, 0) for i in range(CONFIDENCE_BINS)]


def _recent_errors(connection: sa.Connection, where: Conditions) -> list[dict[str, Any]]:
    query = sa.select(*(requests.c[name] for name in ("time", "status", "error", "model")))
    query = query.where(*where, requests.c.status >= 400).order_by(requests.c.id.desc()).limit(RECENT_ERRORS)
    return [dict(row._mapping) for row in connection.execute(query)]
