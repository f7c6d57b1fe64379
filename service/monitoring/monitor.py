"""The monitoring of one worker, with the dashboard at /monitoring and its figures at /api/monitoring."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from sqlalchemy.exc import SQLAlchemyError

from service.errors import StoreUnavailableError
from service.limits import Slots
from service.monitoring import drift, statistics
from service.monitoring.background import Background
from service.monitoring.recorder import Recorder
from service.monitoring.store import Store
from service.predictor import Predictor
from service.schemas import REFUSALS
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
    """The monitoring of one worker: the store, the recorder and the background work."""

    def __init__(self, predictor: Predictor, settings: Settings):
        self.predictor = predictor
        self.reference = drift.load(predictor.package)
        self.store = Store(settings.monitoring_url)
        self.recorder = Recorder(self.store)
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

    def stop(self) -> None:
        """Write the rows that wait, and stop."""
        if self._background:
            self._background.stop()
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
        except (SQLAlchemyError, OSError):
            raise StoreUnavailableError(UNAVAILABLE) from None
        about = {name: self.predictor.about[name] for name in ("dataset", "data_version", "synthetic")}
        return {**about, "packaged": list(self.predictor.about["models"]), "lost": lost, **figures, "drift": windows}

    def router(self) -> APIRouter:
        """Return the routes of the dashboard, its files, and its figures as JSON."""
        router = APIRouter()

        @router.get("/api/monitoring", responses=REFUSALS)
        async def monitoring(
            hours: Annotated[float, Query(gt=0, le=24 * 366, description="how far to look back")] = 24,
            model: Annotated[str, Query(max_length=64, description="the network; all when left out")] = "",
        ) -> dict[str, Any]:
            """Return counts, latencies, classes, confidence, drift, accuracy and recent errors of the last hours."""
            return await self.summary(hours, model)

        @router.get("/monitoring", include_in_schema=False)
        def page() -> FileResponse:
            return FileResponse(STATIC / "index.html", media_type="text/html")

        for name, kind in FILES.items():
            router.add_api_route(
                f"/monitoring/{name}", _file(STATIC / name, kind), include_in_schema=False, response_class=FileResponse
            )
        return router


def _file(path: Path, kind: str) -> Any:
    def file() -> FileResponse:
        return FileResponse(path, media_type=kind)

    return file
