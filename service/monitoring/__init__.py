"""Monitoring over time: what is recorded of every answer, the dashboard at /monitoring, and /api/monitoring."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from sqlalchemy.exc import SQLAlchemyError

from mri.errors import UserError
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
FEEDBACK_SECONDS = 1.0


class StoreUnavailableError(UserError):
    """The monitoring store can't be used at the moment."""


class Monitoring:
    """The store with everything around it, for one worker."""

    def __init__(self, predictor: Predictor, settings: Settings):
        self.predictor = predictor
        self.reference = drift.load(predictor.package)
        self.store = Store(settings.monitoring_url)
        self.recorder = Recorder(self.store)
        self.started = False
        self._settings = settings
        self._background: Background | None = None

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

    def feedback(self, request_id: str, label: str) -> bool:
        """Note the confirmed class of an answered image; False when no answer has this id."""
        until = time.monotonic() + FEEDBACK_SECONDS
        try:
            while not (known := self.store.feedback(request_id, label)) and time.monotonic() < until:
                time.sleep(0.1)
        except (SQLAlchemyError, OSError):
            raise StoreUnavailableError("the monitoring store can't be used at the moment: try again later") from None
        return known

    def summary(self, hours: float, model: str) -> dict[str, Any]:
        """What the dashboard shows of the last so many hours, of one network or of all ("")."""
        until = time.time()
        since = until - 3600 * hours
        try:
            found = statistics.summary(self.store, since, until, model)
            lost = self.store.lost()
            moved = drift.summary(self.store, self.reference, since, until)
        except (SQLAlchemyError, OSError):
            raise StoreUnavailableError("the monitoring store can't be used at the moment: try again later") from None
        about = {name: self.predictor.about[name] for name in ("dataset", "data_version", "synthetic")}
        return {**about, "packaged": list(self.predictor.about["models"]), "lost": lost, **found, "drift": moved}

    def router(self) -> APIRouter:
        """The dashboard, its files, and the same figures as JSON."""
        router = APIRouter()

        @router.get("/api/monitoring", responses=REFUSALS)
        def monitoring(
            hours: Annotated[float, Query(gt=0, le=24 * 366, description="how far back")] = 24,
            model: Annotated[str, Query(max_length=64, description="one network; all when left out")] = "",
        ) -> dict[str, Any]:
            """Figures of the last hours: counts, latencies, classes, confidence, drift, accuracy, recent errors."""
            return self.summary(hours, model)

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
