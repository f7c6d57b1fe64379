"""Monitoring over time: what is recorded of every answer, the dashboard at /monitoring, and /api/monitoring."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from sqlalchemy.exc import SQLAlchemyError

from mri.base.errors import UserError
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
# Feedback may come before another worker has written the row that it is about.
FEEDBACK_SECONDS, FEEDBACK_PAUSE = 1.0, 0.1
# A locked store holds a thread for seconds, and the threads are also those that predict.
FEEDBACK_THREADS = 2
# A summary is given again for so many seconds, or ten times as long as it took: whoever looks takes a tenth of a core.
KEEP_SECONDS, KEEP_TIMES = 5.0, 10
KEPT = 16  # summaries, at most


UNAVAILABLE = "the monitoring store can't be used at the moment: try again later"


class StoreUnavailableError(UserError):
    """The monitoring store can't be used at the moment."""


class Monitoring:
    """The store with everything around it, for one worker."""

    def __init__(self, predictor: Predictor, settings: Settings):
        self.predictor = predictor
        self.reference = drift.load(predictor.package)
        self.store = Store(settings.monitoring_url)
        self.recorder = Recorder(self.store)
        self._settings = settings
        self._background: Background | None = None
        self._kept: dict[tuple[float, str], tuple[float, dict[str, Any]]] = {}  # until when, and which
        self._summing = Slots(1, settings.queue)
        self._noting = Slots(FEEDBACK_THREADS, settings.queue)

    def start(self) -> None:
        """Begin the work beside the answering."""
        classes = self.predictor.package.classes
        self._background = Background(self.store, self._settings, self.reference, classes)
        self._background.start()

    def stop(self) -> None:
        """Write what waits and end."""
        if self._background:
            self._background.stop()
        self.recorder.close()

    async def feedback(self, request_id: str, label: str) -> bool:
        """Note the confirmed class of an answered image; False when no answer has this id.

        Raises StoreUnavailableError, or BusyError when too many wait.
        """
        until = time.monotonic() + FEEDBACK_SECONDS
        while not (known := await self._noted(request_id, label)) and time.monotonic() < until:
            await asyncio.sleep(FEEDBACK_PAUSE)
        return known

    async def _noted(self, request_id: str, label: str) -> bool:
        async with self._noting.taken():
            try:
                return await run_in_threadpool(self.store.feedback, request_id, label)
            except (SQLAlchemyError, OSError):
                raise StoreUnavailableError(UNAVAILABLE) from None

    async def summary(self, hours: float, model: str) -> dict[str, Any]:
        """What the dashboard shows of the last so many hours, of one network or of all (""), some seconds old at most.

        One is made at a time: whoever waits for it holds up no thread. Raises BusyError when too many wait.
        """
        async with self._summing.taken():
            until, found = self._kept.get((hours, model), (0.0, {}))
            if until < time.monotonic():
                found = await run_in_threadpool(self._summarise, hours, model)
            return found

    def _summarise(self, hours: float, model: str) -> dict[str, Any]:
        started = time.monotonic()
        found = self._summary(hours, model)
        ended = time.monotonic()
        self._kept.pop((hours, model), None)
        self._kept[hours, model] = (ended + max(KEEP_SECONDS, KEEP_TIMES * (ended - started)), found)
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]  # the oldest
        return found

    def _summary(self, hours: float, model: str) -> dict[str, Any]:
        until = time.time()
        since = until - 3600 * hours
        try:
            found = statistics.summary(self.store, since, until, model)
            lost = self.store.lost()
            moved = drift.summary(self.store, self.reference, since, until)
        except (SQLAlchemyError, OSError):
            raise StoreUnavailableError(UNAVAILABLE) from None
        about = {name: self.predictor.about[name] for name in ("dataset", "data_version", "synthetic")}
        return {**about, "packaged": list(self.predictor.about["models"]), "lost": lost, **found, "drift": moved}

    def router(self) -> APIRouter:
        """The dashboard, its files, and the same figures as JSON."""
        router = APIRouter()

        @router.get("/api/monitoring", responses=REFUSALS)
        async def monitoring(
            hours: Annotated[float, Query(gt=0, le=24 * 366, description="how far back")] = 24,
            model: Annotated[str, Query(max_length=64, description="one network; all when left out")] = "",
        ) -> dict[str, Any]:
            """Figures of the last hours: counts, latencies, classes, confidence, drift, accuracy, recent errors."""
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
