"""The pages for people: the classifier at /, the API reference at /docs, and the files of both below /ui.

static/         plain HTML, CSS and JavaScript, served as they are
  index.html      the classifier: app.js chooses among its views, view-*.js
  docs.html       the API reference, which docs.js makes from /docs.json
  samples/        a synthetic scan of each class
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from mri.inference.overlays import overlay, png
from service.security import REVALIDATED

STATIC = Path(__file__).parent / "static"
SAMPLES = STATIC / "samples"


def routes() -> list[Route]:
    """Return the pages' routes. They need no predictor: pages use the API as any other client does."""
    return [
        Route("/", _page("index.html")),
        Route("/docs", _page("docs.html")),
        Route("/ui/legend.png", _legend),
        Route("/ui/{path:path}", _file),
    ]


def _page(name: str) -> Callable[[Request], Response]:
    return lambda request: FileResponse(STATIC / name, headers=REVALIDATED)


def _legend(request: Request) -> Response:
    """Return the colours of maps from 0 to their maximum."""
    return Response(png(overlay(np.linspace(0, 1, 256)[None])), media_type="image/png", headers=REVALIDATED)


async def _file(request: Request) -> Response:
    response = await StaticFiles(directory=STATIC).get_response(request.path_params["path"], request.scope)
    response.headers.update(REVALIDATED)
    return response
