"""ASGI middleware that records every prediction request in the store and in Prometheus's metrics."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mri.data.images import ImageError
from mri.inference.drift import image_statistics
from service.context import image_id, is_start, request_id, state
from service.monitoring import drift
from service.monitoring.prometheus import exposed

if TYPE_CHECKING:
    from service.monitoring.monitor import Monitor
    from service.predictor import ImageResult

RECORDED = ("/predict", "/predict_batch", "/predict_series")

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
            image_rows = rows(scope, status, ms, self.monitor)
            for row, shadow_pixels in image_rows:
                if shadow_pixels is not None and self.monitor.shadow:
                    self.monitor.shadow.put(row, shadow_pixels)
                else:
                    self.monitor.recorder.put(**row)
                self._count(row)
            exposed().request_seconds.labels(image_rows[0][0]["model"] or "").observe(ms / 1e3)
        except Exception:
            logger.exception("a request can't be recorded")
            self.monitor.recorder.lost += 1

    def _count(self, row: dict[str, Any]) -> None:
        counted, model = exposed(), row["model"] or ""
        abstained = str(bool(row.get("abstain"))).lower()
        counted.images.labels(model, row.get("label") or "", abstained, row.get("error") or "").inc()
        counted.image_seconds.labels(model).observe(row["ms"] / 1e3 / row["images"])
        if (right := drift.estimated_right(row, self.monitor.reference)) is not None:
            counted.estimated.labels(model, str(right).lower()).inc()
        counted.lost.set(self.monitor.recorder.lost)


def rows(scope: Scope, status: int, ms: float, monitor: Monitor) -> list[tuple[dict[str, Any], np.ndarray | None]]:
    """Return the rows of one request, each with the input that the shadow is to be asked about, or None.

    In a batch there is one for each image, with an id of its own.

    This removes the results, with their images and features, from the request: BentoML keeps every request, answered or
    not, until its timeout is over. Under load that would be a gigabyte.
    """
    shared, name = state(scope), request_id(scope)
    model = shared.get("model")
    version = monitor.predictor.package.version(model) if model else None
    results, again = shared.pop("predictions", []), shared.pop("again", False)
    common = {"time": time.time(), "route": scope["path"], "ms": ms, "model": model, "model_version": version}
    common["images"] = len(results) or 1
    if status != 200 or not results:
        error = shared.get("error") or (None if status < 400 else "internal_error")
        return [(common | {"request_id": name, "status": status, "error": error, "images": 1}, None)]
    single = scope["path"] != "/predict_batch"  # of a series the verdict, with its key slice
    is_default = model == monitor.predictor.package.default
    image_rows: list[tuple[dict[str, Any], np.ndarray | None]] = []
    for i, result in enumerate(results):
        row = common | {"request_id": name if single else image_id(scope, i), "status": status}
        if isinstance(result, ImageError):
            image_rows.append((row | {"status": 422, "error": "unreadable_image"}, None))
        else:
            shadow_pixels = result.shadow_pixels if is_default and not again else None
            image_rows.append((row | prediction_columns(result, monitor, again), shadow_pixels))
    return image_rows


def prediction_columns(result: ImageResult, monitor: Monitor, again: bool) -> dict[str, Any]:
    """Return what is recorded of one prediction: numbers and names of classes, nothing of the image itself.

    again: whether the image has a row already. Drift counts rows with a projection, so that one gets none.
    """
    opinion, reference = result.opinion, monitor.reference
    counts = reference is not None and reference.about["model"] == opinion.model and not again
    projection = reference.project(opinion.pooled[None])[0] if reference and counts else np.empty(0)
    return {
        "data_version": monitor.predictor.about["data_version"],
        "label": opinion.label,
        "confidence": opinion.probabilities[opinion.label],
        "probabilities": {name: round(value, 6) for name, value in opinion.probabilities.items()},
        "set": opinion.members,
        "abstain": bool(result.reasons),
        "reasons": [reason.code for reason in result.reasons],
        "unlike_training": opinion.score - opinion.threshold,
        "width": result.width,
        "height": result.height,
        "milliseconds": {part: round(value, 3) for part, value in result.milliseconds.items()},
        "statistics": [round(float(value), 5) for value in image_statistics(result.pixels[None])[0]],
        "projection": [round(float(value), 3) for value in projection],
    }
