"""What `bentoml serve` starts: BentoML runs workers, health checks and metrics, and serves the methods of api.py."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

# BentoML 1.4.39 has no public way to let it read again a variable whose value its command line has cached before it
# imports the service.
from bentoml._internal.utils.analytics.usage_stats import do_not_track

from mri.base.errors import UserError
from mri.base.paths import SERVICE
from service import api
from service.predictor import Predictor
from service.settings import Settings

# By default BentoML reports every start and every twelve hours of use to its makers.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
do_not_track.cache_clear()

# How long a thread that returns from a model call, or from decoding, waits for a busy event loop to let it continue.
# With Python's default of 5 ms an answer takes up to a fifth longer.
sys.setswitchinterval(0.0005)

# Even without an exporter, which only a configuration of BentoML names, it would trace every request for nobody.
_is_configured = any(os.environ.get(name) for name in ("BENTOML_CONFIG", "BENTOML_CONFIG_OPTIONS"))
_tracing: dict[str, Any] = {} if _is_configured else {"excluded_urls": ".*"}


def _check_build(served: Path) -> None:
    """Raise UserError where a Bento would lack what is served: it holds what pyproject.toml includes."""
    if sys.argv[1:2] == ["build"] and served.absolute() != SERVICE.absolute():
        raise UserError(f"a Bento holds {SERVICE} alone: copy {served} there, and unset MRI_SERVICE")


try:
    _settings = Settings.read()
    _check_build(_settings.service)
    BrainTumourClassifier = api.create(
        Predictor(_settings.service),
        _settings,
        traffic={"timeout": 3 * _settings.timeout_seconds},  # a last resort: limits.py is stricter
        tracing=_tracing,
    )
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None

# What is loaded now stays loaded: frozen, the garbage collector doesn't search it again and again.
gc.collect()
gc.freeze()
