"""The pages for people: the classifier at /, the API reference at /docs, and the files of both below /ui.

static/         plain HTML, CSS and JavaScript, served as they are
  index.html      the classifier: app.js chooses among its views, view-*.js
  docs.html       the API reference, which docs.js makes from /docs.json
  samples/        a synthetic scan of each class
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from mri.inference.overlays import overlay, png
from service.security import REVALIDATED

STATIC = Path(__file__).parent / "static"
SAMPLES = STATIC / "samples"


def router() -> APIRouter:
    """Return the pages' routes. They need no predictor: pages use the API as any other client does."""
    pages = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=STATIC)

    @pages.get("/")
    def classifier() -> Response:
        return FileResponse(STATIC / "index.html", headers=REVALIDATED)

    @pages.get("/docs")
    def reference() -> Response:
        return FileResponse(STATIC / "docs.html", headers=REVALIDATED)

    @pages.get("/ui/legend.png")
    def legend() -> Response:
        """Return the colours of maps from 0 to their maximum."""
        return Response(png(overlay(np.linspace(0, 1, 256)[None])), media_type="image/png", headers=REVALIDATED)

    @pages.get("/ui/{path:path}")
    async def file(path: str, request: Request) -> Response:
        response = await files.get_response(path, request.scope)
        response.headers.update(REVALIDATED)
        return response

    return pages
