"""`bentoml serve` starts this: BentoML runs the workers, health checks and metrics, api.py answers the requests."""

from __future__ import annotations

import sys

import bentoml

from mri.errors import UserError
from service import api
from service.predictor import Predictor
from service.security import Access, SecurityHeaders
from service.settings import Settings

try:
    _settings = Settings.read()
    _app = api.create(Predictor(), _settings)
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None


@bentoml.service(
    name="brain_tumour_classifier",
    workers=_settings.workers,  # `bentoml serve --api-workers` does nothing for a service of this kind
    traffic={"timeout": 3 * _settings.seconds},  # the last resort: see limits.py
)
@bentoml.asgi_app(_app, path="/")
class BrainTumourClassifier:
    """Four networks for brain-tumour MRI behind one REST API."""


# BentoML's own routes need the same keys and headers as those of the application.
BrainTumourClassifier.add_asgi_middleware(Access, settings=_settings)  # type: ignore[attr-defined]
BrainTumourClassifier.add_asgi_middleware(SecurityHeaders)  # type: ignore[attr-defined]
