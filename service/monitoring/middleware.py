"""ASGI middleware that records every prediction request in the store and in Prometheus's metrics."""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from bentoml import metrics  # imports prometheus_client late enough to work with several processes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mri.data.images import ImageError
from mri.inference.drift import image_statistics
from service.context import image_id, is_start, request_id, state

if TYPE_CHECKING:
    from service.monitoring.monitor import Monitor
    from service.predictor import ImageResult

RECORDED = ("/predict", "/predict_batch")

logger = logging.getLogger("service.monitoring")


class RecordPredictions:
    """Record requests to RECORDED whatever their outcome: a row for each image, or one for a request that failed."""

    def __init__(self, app: ASGIApp, monitor: Monitor):
        self.app, self.monitor = app, monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in RECORDED:
            await self.app(scope, receive, send)
            return
        request_id(scope)
        started, status = time.perf_counter(), 500

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if is_start(message):
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noting_status)
        finally:
            self._record(scope, status, 1e3 * (time.perf_counter() - started))

    def _record(self, scope: Scope, status: int, ms: float) -> None:
        """Record a request; never raises, as the request has been answered."""
        try:
            for row in rows(scope, status, ms, self.monitor):
                self.monitor.recorder.put(**row)
                self._count(row)
        except Exception:
            logger.exception("a request can't be recorded")
            self.monitor.recorder.lost += 1

    def _count(self, row: dict[str, Any]) -> None:
        images, seconds, lost = _metrics()
        model, label = row.get("model") or "", row.get("label") or ""
        images.labels(model, label, str(bool(row.get("abstain"))).lower(), row.get("error") or "").inc()
        seconds.labels(model).observe(row["ms"] / 1e3)
        lost.set(self.monitor.recorder.lost)


@cache
def _metrics() -> tuple[Any, Any, Any]:
    """Return the metrics, made at the first request: prometheus_client must not be imported earlier."""
    return (
        metrics.Counter("mri_images", "Images by outcome", ["model", "label", "abstain", "error"]),
        metrics.Histogram("mri_request_seconds", "Time from request to answer", ["model"]),
        metrics.Gauge("mri_rows_lost", "Rows that could not be recorded", multiprocess_mode="livesum"),
    )


def rows(scope: Scope, status: int, ms: float, monitor: Monitor) -> list[dict[str, Any]]:
    """Return the rows of one request; in a batch, one for each image, with an id of its own.

    This removes the results, with their images and features, from the request: BentoML keeps every request, answered or
    not, until its timeout is over. Under load that would be a gigabyte.
    """
    shared, name = state(scope), request_id(scope)
    model = shared.get("model")
    version = monitor.predictor.package.version(model) if model else None
    common = {"time": time.time(), "route": scope["path"], "ms": ms, "model": model, "model_version": version}
    results, again = shared.pop("predictions", []), shared.pop("again", False)
    if status != 200 or not results:
        error = shared.get("error") or (None if status < 400 else "internal_error")
        return [common | {"request_id": name, "status": status, "error": error}]
    single = scope["path"] == "/predict"
    image_rows = []
    for i, result in enumerate(results):
        row = common | {"request_id": name if single else image_id(scope, i), "status": status}
        if isinstance(result, ImageError):
            image_rows.append(row | {"status": 422, "error": "unreadable_image"})
        else:
            image_rows.append(row | prediction_columns(result, monitor, again))
    return image_rows


def prediction_columns(result: ImageResult, monitor: Monitor, again: bool) -> dict[str, Any]:
    """Return what is recorded of one prediction: numbers and names of classes, nothing of the image itself.

    again: whether the image has a row already. Drift counts rows with a projection, so that one gets none.
    """
    opinion, reference = result.opinion, monitor.reference
    counts = reference is not None and reference.about["model"] == opinion.model and not again
    projection = reference.project(opinion.pooled[None])[0] if reference and counts else np.empty(0)
    strangeness = opinion.score / opinion.threshold if opinion.score is not None and opinion.threshold else None
    return {
        "data_version": monitor.predictor.about["data_version"],
        "label": opinion.label,
        "confidence": opinion.probabilities[opinion.label],
        "probabilities": {name: round(value, 6) for name, value in opinion.probabilities.items()},
        "set": opinion.members,
        "abstain": bool(result.reasons),
        "reasons": [reason.code for reason in result.reasons],
        "unlike_training": strangeness,
        "width": result.width,
        "height": result.height,
        "milliseconds": {part: round(value, 3) for part, value in result.milliseconds.items()},
        "statistics": [round(float(value), 5) for value in image_statistics(result.pixels[None])[0]],
        "projection": [round(float(value), 3) for value in projection],
    }
