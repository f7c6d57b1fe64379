"""The pages for people: the classifier at /, the API's reference at /docs, and the files that both need under /ui.

All of it is plain HTML, CSS and JavaScript in static/, served as it is. The policy in `HEADERS` lets a browser load
nothing from elsewhere and run nothing that isn't one of those files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from mri.inference.overlays import overlay, png

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Kept, but asked for again each time: an upgraded service never meets the old one's scripts.
    "Cache-Control": "no-cache",
}


def router() -> APIRouter:
    """The pages' routes. They need no predictor: the page asks the API as any other client does."""
    pages = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=STATIC)

    @pages.get("/")
    def classifier() -> Response:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    @pages.get("/docs")
    def reference() -> Response:
        return FileResponse(STATIC / "docs.html", headers=HEADERS)

    @pages.get("/ui/legend.png")
    def legend() -> Response:
        """What maps look like from 0 to their maximum, drawn as they are."""
        return Response(png(overlay(np.linspace(0, 1, 256)[None])), media_type="image/png", headers=HEADERS)

    @pages.get("/ui/{path:path}")
    async def file(path: str, request: Request) -> Response:
        response = await files.get_response(path, request.scope)
        response.headers.update(HEADERS)
        return response

    return pages
