"""What the service adds to BentoML's figures at /metrics; docs/grafana.json draws it, docs/alerts.yml watches it."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, NamedTuple

from bentoml import metrics  # imports prometheus_client late enough to work with several processes


class Metrics(NamedTuple):
    """The metrics of one process; /metrics adds those of all workers up."""

    images: Any
    request_seconds: Any
    image_seconds: Any
    estimated: Any
    shadow: Any
    drift: Any
    lost: Any


_making = threading.Lock()


def exposed() -> Metrics:
    """Return the metrics. Safe to call from several threads."""
    with _making:
        return _made()


@cache
def _made() -> Metrics:
    """Return the metrics, made at first use: prometheus_client must not be imported earlier."""
    return Metrics(
        metrics.Counter("mri_images", "Images by outcome", ["model", "label", "abstain", "error"]),
        metrics.Histogram("mri_request_seconds", "Time from request to answer", ["model"]),
        metrics.Histogram("mri_image_seconds", "Time of a request over the number of its images", ["model"]),
        metrics.Counter("mri_estimated", "Predictions, by whether they are estimated to be right", ["model", "right"]),
        metrics.Counter("mri_shadow", "Images, by what the shadow made of them", ["outcome"]),
        metrics.Gauge("mri_drift_alarms", "Signals of drift that alarm", multiprocess_mode="livesum"),
        metrics.Gauge("mri_rows_lost", "Rows that could not be recorded", multiprocess_mode="livesum"),
    )
