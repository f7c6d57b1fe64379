"""The monitoring of one worker, with the dashboard at /monitoring and its figures at /api/monitoring."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

from service.errors import StoreUnavailableError, wrong_fields
from service.limits import Slots
from service.monitoring import drift, shadow, statistics
from service.monitoring.background import Background
from service.monitoring.recorder import Recorder
from service.monitoring.shadow import Shadow
from service.monitoring.store import Store, started_in
from service.predictor import Predictor
from service.schemas import MonitoringQuery
from service.settings import Settings

STATIC = Path(__file__).parent / "static"
FILES = {"monitoring.css": "text/css", "monitoring.js": "text/javascript", "charts.js": "text/javascript"}
# Feedback may arrive before another worker has written the row of the prediction.
FEEDBACK_SECONDS, FEEDBACK_PAUSE = 1.0, 0.1
# A locked store blocks a thread for seconds, and predictions need the same threads.
FEEDBACK_THREADS = 2
# A summary is cached for so many seconds, or for ten times as long as it took: it uses a tenth of a core at most.
CACHE_SECONDS, CACHE_FACTOR = 5.0, 10
CACHED_SUMMARIES = 16
UNAVAILABLE = "the monitoring store can't be used at the moment: try again later"


class Monitor:
    """The monitoring of one worker: the store, the recorder, the shadow and the background work."""

    def __init__(self, predictor: Predictor, settings: Settings):
        self.predictor = predictor
        self.reference = drift.load(predictor.package)
        self.store = Store(settings.monitoring_url)
        self.recorder = Recorder(self.store)
        self.shadow: Shadow | None = None
        if settings.shadow:
            self.shadow = Shadow(started_in() / settings.shadow, predictor.package.classes, self.recorder)
            predictor.shadow_size = self.shadow.size
        self._settings = settings
        self._background: Background | None = None
        # {(hours, model): (until when it is valid, summary)}
        self._cache: dict[tuple[float, str], tuple[float, dict[str, Any]]] = {}
        self._summary_slot = Slots(1, settings.queue)
        self._feedback_slots = Slots(FEEDBACK_THREADS, settings.queue)

    def start(self) -> None:
        """Start the background work."""
        classes = self.predictor.package.classes
        self._background = Background(self.store, self._settings, self.reference, classes)
        self._background.start()
        if self.shadow:
            self.shadow.start()

    def stop(self) -> None:
        """Write the rows that wait, and stop."""
        if self._background:
            self._background.stop()
        if self.shadow:
            self.shadow.stop()
        self.recorder.close()

    async def feedback(self, request_id: str, label: str) -> bool:
        """Store the confirmed class of a predicted image; return False when no prediction has this id.

        Raises StoreUnavailableError, or BusyError when too many wait.
        """
        until = time.monotonic() + FEEDBACK_SECONDS
        while not (stored := await self._store_feedback(request_id, label)) and time.monotonic() < until:
            await asyncio.sleep(FEEDBACK_PAUSE)
        return stored

    async def _store_feedback(self, request_id: str, label: str) -> bool:
        async with self._feedback_slots.taken():
            try:
                return await run_in_threadpool(self.store.feedback, request_id, label)
            except (SQLAlchemyError, OSError):
                raise StoreUnavailableError(UNAVAILABLE) from None

    async def summary(self, hours: float, model: str) -> dict[str, Any]:
        """Return the dashboard's figures of the last hours, of one network or of all (""); they may be from the cache.

        One summary is made at a time, and requests that wait for it block no thread. Raises BusyError when too many
        wait.
        """
        async with self._summary_slot.taken():
            until, summary = self._cache.get((hours, model), (0.0, {}))
            if until < time.monotonic():
                summary = await run_in_threadpool(self._make_summary, hours, model)
            return summary

    def _make_summary(self, hours: float, model: str) -> dict[str, Any]:
        started = time.monotonic()
        summary = self._query(hours, model)
        ended = time.monotonic()
        self._cache.pop((hours, model), None)
        self._cache[hours, model] = (ended + max(CACHE_SECONDS, CACHE_FACTOR * (ended - started)), summary)
        if len(self._cache) > CACHED_SUMMARIES:
            del self._cache[next(iter(self._cache))]  # the oldest
        return summary

    def _query(self, hours: float, model: str) -> dict[str, Any]:
        until = time.time()
        since = until - 3600 * hours
        try:
            figures = statistics.summary(self.store, since, until, model)
            lost = self.store.lost()
            windows = drift.summary(self.store, self.reference, since, until)
            estimate = drift.estimate(self.store, self.reference, since, until)
            compared = shadow.summary(self.store, self.shadow, since, until, model)
        except (SQLAlchemyError, OSError):
            raise StoreUnavailableError(UNAVAILABLE) from None
        about = {name: self.predictor.about[name] for name in ("dataset", "data_version", "synthetic")}
        beside = {"drift": windows, "estimate": estimate, "shadow": compared}
        return {**about, "packaged": list(self.predictor.about["models"]), "lost": lost, **figures, **beside}

    def routes(self) -> list[Route]:
        """Return the routes of the dashboard, its files, and its figures as JSON."""
        files = [Route(f"/monitoring/{name}", _file(STATIC / name, kind)) for name, kind in FILES.items()]
        return [
            Route("/api/monitoring", self._figures),
            Route("/monitoring", _file(STATIC / "index.html", "text/html")),
            *files,
        ]

    async def _figures(self, request: Request) -> JSONResponse:
        try:
            asked = MonitoringQuery.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise wrong_fields(error, MonitoringQuery) from None
        return JSONResponse(await self.summary(asked.hours, asked.model))


def _file(path: Path, kind: str) -> Callable[[Request], FileResponse]:
    return lambda request: FileResponse(path, media_type=kind)
