"""`bentoml serve` starts this: BentoML runs the workers, health checks and metrics, api.py answers the requests."""

from __future__ import annotations

import bentoml

from mri.errors import UserError
from service import api
from service.predictor import Predictor

try:
    _app = api.create(Predictor())
except UserError as error:
    raise SystemExit(f"error: {error}") from None


@bentoml.service(name="brain_tumour_classifier", traffic={"timeout": 30})
@bentoml.asgi_app(_app, path="/")
class BrainTumourClassifier:
    """Four networks for brain-tumour MRI behind one REST API."""
