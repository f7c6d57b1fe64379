"""What `bentoml serve` starts: BentoML runs the workers, health checks and metrics; api.py answers the requests."""

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

# By default BentoML reports every start and every twelve hours of use to its makers. Its command line has read this
# variable, and cached its value, before it imports the service.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
do_not_track.cache_clear()

# How long a thread that returns from a model call, or from decoding, waits for a busy event loop to let it continue.
# With Python's default of 5 ms an answer takes up to a fifth longer.
sys.setswitchinterval(0.0005)

# Even without an exporter BentoML would trace every request: work whose result nobody sees.
_tracing: dict[str, Any] = {} if BentoMLContainer.tracing.exporter_type.get() else {"excluded_urls": ".*"}

try:
    _settings = Settings.read()
    _app = api.create(Predictor(_settings.service), _settings)
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None

# What is loaded now stays loaded: frozen, the garbage collector doesn't search it again and again.
gc.collect()
gc.freeze()


@bentoml.service(
    name="brain_tumour_classifier",
    workers=_settings.workers,  # `bentoml serve --api-workers` does nothing for a service of this kind
    traffic={"timeout": 3 * _settings.timeout_seconds},  # a last resort: limits.py is stricter
    tracing=_tracing,
)
@bentoml.asgi_app(_app, path="/")
class BrainTumourClassifier:
    """The packaged networks for brain-tumour MRI behind one REST API."""


# For BentoML's own routes. The application adds both to its routes itself, so that refused requests are recorded.
BrainTumourClassifier.add_asgi_middleware(SecurityHeaders)  # type: ignore[attr-defined]
BrainTumourClassifier.add_asgi_middleware(Access, settings=_settings, paths=["/metrics"])  # type: ignore[attr-defined]
