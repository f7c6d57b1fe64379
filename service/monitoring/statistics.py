"""What the store says of a stretch of time: counts, rates, latencies, predictions, accuracy, recent errors."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mri.intervals import wilson
from service.monitoring.store import Store, requests

COLUMNS = ("time", "status", "error", "ms", "model", "label", "confidence", "abstain", "feedback")
# Rows that one summary reads, at most: the newest. Some seconds' work; a summary that left some out says so.
MOST_ROWS = 200_000
POINTS = 60  # of every line on the dashboard
RECENT_ERRORS = 20
CONFIDENCE_BINS = 10


def summary(store: Store, since: float, until: float, model: str = "") -> dict[str, Any]:
    """Figures of the answers between two times (seconds since 1970), of one network or of all.

    {since, until, rows, truncated, totals, series, models, confidence, recent_errors}; `totals`, each part of `series`
    and of `models` have the form of `figures`.
    """
    inside = [requests.c.time >= since, requests.c.time <= until]
    rows = store.select(*COLUMNS, where=inside, newest=MOST_ROWS)
    truncated = len(rows) == MOST_ROWS
    names = sorted({row.model for row in rows if row.model})
    chosen = [row for row in rows if not model or row.model == model]
    return {
        "since": since,
        "until": until,
        "model": model or None,
        "rows": len(chosen),
        "truncated": truncated,
        "totals": figures(chosen),
        "series": _series(chosen, since, until),
        "models": {name: figures([row for row in rows if row.model == name]) for name in names},
        "confidence": _confidence(chosen),
        "recent_errors": _recent_errors(chosen),
    }


def figures(rows: list[Any]) -> dict[str, Any]:
    """Of rows with COLUMNS: {requests, predictions, errors, refused, error_rate, abstained, abstention_rate,
    latency_ms, confidence, classes, accuracy}.

    errors: answers 5xx; refused: 4xx (the request was wrong). Both together over requests are the error rate.
    latency_ms: {p50, p95, p99} of predictions. confidence: {p10, p50, p90}. accuracy: {value, low, high, n} where
    confirmed classes have come back. What there are no rows for is None.
    """
    predictions = [row for row in rows if row.label is not None]
    errors = sum(row.status >= 500 for row in rows)
    refused = sum(400 <= row.status < 500 for row in rows)
    abstained = sum(bool(row.abstain) for row in predictions)
    confirmed = [row.label == row.feedback for row in predictions if row.feedback is not None]
    return {
        "requests": len(rows),
        "predictions": len(predictions),
        "errors": errors,
        "refused": refused,
        "error_rate": (errors + refused) / len(rows) if rows else None,
        "abstained": abstained,
        "abstention_rate": abstained / len(predictions) if predictions else None,
        "latency_ms": _quantiles([row.ms for row in predictions], (50, 95, 99)),
        "confidence": _quantiles([row.confidence for row in predictions if row.confidence is not None], (10, 50, 90)),
        "classes": dict(sorted(Counter(row.label for row in predictions).items())),
        "accuracy": wilson(sum(confirmed), len(confirmed)) | {"n": len(confirmed)} if confirmed else None,
    }


def _quantiles(values: list[float], percent: tuple[int, ...]) -> dict[str, float] | None:
    if not values:
        return None
    found = np.percentile(values, percent)
    return {f"p{share}": round(float(value), 4) for share, value in zip(percent, found, strict=True)}


def _series(rows: list[Any], since: float, until: float) -> list[dict[str, Any]]:
    """Figures of POINTS equal stretches of time, each with the time at which it starts."""
    step = (until - since) / POINTS
    parts: list[list[Any]] = [[] for _ in range(POINTS)]
    for row in rows:
        parts[min(int((row.time - since) / step), POINTS - 1)].append(row)
    return [{"time": since + i * step, **figures(part)} for i, part in enumerate(parts)]


def _confidence(rows: list[Any]) -> list[int]:
    """How many predictions have a confidence of up to 0.1, 0.2, ... 1."""
    values = [row.confidence for row in rows if row.confidence is not None]
    return np.histogram(values, CONFIDENCE_BINS, (0, 1))[0].tolist()


def _recent_errors(rows: list[Any]) -> list[dict[str, Any]]:
    failed = [row for row in rows if row.status >= 400][-RECENT_ERRORS:]
    return [{"time": row.time, "status": row.status, "error": row.error, "model": row.model} for row in failed[::-1]]
