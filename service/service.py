"""`bentoml serve` starts this: BentoML runs the workers, health checks and metrics, api.py answers the requests."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils.analytics.usage_stats import do_not_track

from mri.base.errors import UserError
from service import api
from service.predictor import Predictor
from service.security import Access, SecurityHeaders
from service.settings import Settings

# Unless told otherwise BentoML reports every start and every twelve hours of use to its makers. Its command line has
# looked at this variable, and remembered what it saw, before it imports the service.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
do_not_track.cache_clear()

# Threads that come back from a model call, or from decoding, wait this long for a busy event loop to let them on. With
# Python's own 5 ms an answer takes up to a fifth longer.
sys.setswitchinterval(0.0005)

# Without an exporter BentoML makes spans of every request, and of all parts of its answer, that nobody gets to see.
_traced: dict[str, Any] = {} if BentoMLContainer.tracing.exporter_type.get() else {"excluded_urls": ".*"}

try:
    _settings = Settings.read()
    _app = api.create(Predictor(), _settings)
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None

# What is loaded now stays: left to the garbage collector, it would be looked through every so often.
gc.collect()
gc.freeze()


@bentoml.service(
    name="brain_tumour_classifier",
    workers=_settings.workers,  # `bentoml serve --api-workers` does nothing for a service of this kind
    traffic={"timeout": 3 * _settings.seconds},  # the last resort: see limits.py
    tracing=_traced,
)
@bentoml.asgi_app(_app, path="/")
class BrainTumourClassifier:
    """Four networks for brain-tumour MRI behind one REST API."""


# BentoML's own routes need headers and a key too; those of the application have both, and record who is refused.
BrainTumourClassifier.add_asgi_middleware(SecurityHeaders)  # type: ignore[attr-defined]
BrainTumourClassifier.add_asgi_middleware(Access, settings=_settings, paths=["/metrics"])  # type: ignore[attr-defined]
