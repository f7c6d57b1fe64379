"""ASGI middleware that hands every answered prediction request to the recorder and to Prometheus."""

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
from service.answers import image_id, is_start, request_id, state
from service.monitoring import Monitoring

if TYPE_CHECKING:
    from service.predictor import Prediction

WATCHED = ("/predict", "/predict_batch")

logger = logging.getLogger("service.monitoring")


class Watch:
    """Records requests to WATCHED, whatever their outcome: one row per image; one for a request that failed wholly."""

    def __init__(self, app: ASGIApp, monitoring: Monitoring):
        self.app, self.monitoring = app, monitoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in WATCHED:
            await self.app(scope, receive, send)
            return
        request_id(scope)
        started, status = time.perf_counter(), 500

        async def watching(message: Message) -> None:
            nonlocal status
            if is_start(message):
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watching)
        finally:
            self._record(scope, status, 1e3 * (time.perf_counter() - started))

    def _record(self, scope: Scope, status: int, ms: float) -> None:
        """Never raises: what can't be recorded must not fail what was answered."""
        try:
            for row in rows(scope, status, ms, self.monitoring):
                self.monitoring.recorder.put(**row)
                self._count(row)
        except Exception:
            logger.exception("a request can't be recorded")
            self.monitoring.recorder.lost += 1

    def _count(self, row: dict[str, Any]) -> None:
        images, seconds, lost = _metrics()
        model, label = row.get("model") or "", row.get("label") or ""
        images.labels(model, label, str(bool(row.get("abstain"))).lower(), row.get("error") or "").inc()
        seconds.labels(model).observe(row["ms"] / 1e3)
        lost.set(self.monitoring.recorder.lost)


@cache
def _metrics() -> tuple[Any, Any, Any]:
    """Once per process, and not before the first request: prometheus_client must not be imported earlier."""
    return (
        metrics.Counter("mri_images", "Images by outcome", ["model", "label", "abstain", "error"]),
        metrics.Histogram("mri_request_seconds", "Time from request to answer", ["model"]),
        metrics.Gauge("mri_rows_lost", "Rows that could not be recorded", multiprocess_mode="livesum"),
    )


def rows(scope: Scope, status: int, ms: float, monitoring: Monitoring) -> list[dict[str, Any]]:
    """The rows of one request; of a batch, one per image with an id of its own.

    The predictions, with their images and features, are taken out of the request: BentoML keeps every one, answered
    or not, until its timeout is over, which under load is a gigabyte of them.
    """
    told, name = state(scope), request_id(scope)
    asked = told.get("model")
    version = monitoring.predictor.package.version(asked) if asked else None
    common = {"time": time.time(), "route": scope["path"], "ms": ms, "model": asked, "model_version": version}
    found, again = told.pop("predictions", []), told.pop("again", False)
    if status != 200 or not found:
        error = told.get("error") or (None if status < 400 else "internal_error")
        return [common | {"request_id": name, "status": status, "error": error}]
    single = scope["path"] == "/predict"
    made = []
    for i, one in enumerate(found):
        row = common | {"request_id": name if single else image_id(scope, i), "status": status}
        if isinstance(one, ImageError):
            made.append(row | {"status": 422, "error": "unreadable_image"})
        else:
            made.append(row | _told(one, monitoring, again))
    return made


def _told(prediction: Prediction, monitoring: Monitoring, again: bool) -> dict[str, Any]:
    """What is kept of one prediction: numbers and names of classes, nothing of the image itself.

    again: whether the image is in a row already. Drift compares rows with a projection: of other images each.
    """
    said, reference = prediction.opinion, monitoring.reference
    followed = reference is not None and reference.about["model"] == said.model and not again
    projection = reference.project(said.pooled[None])[0] if reference and followed else np.empty(0)
    return {
        "data_version": monitoring.predictor.about["data_version"],
        "label": said.label,
        "confidence": said.probabilities[said.label],
        "probabilities": {name: round(value, 6) for name, value in said.probabilities.items()},
        "set": said.members,
        "abstain": bool(prediction.reasons),
        "reasons": [reason.code for reason in prediction.reasons],
        "unlike_training": said.score / said.threshold if said.score is not None and said.threshold else None,
        "width": prediction.width,
        "height": prediction.height,
        "milliseconds": {part: round(value, 3) for part, value in prediction.milliseconds.items()},
        "statistics": [round(float(value), 5) for value in image_statistics(prediction.pixels[None])[0]],
        "projection": [round(float(value), 3) for value in projection],
    }
