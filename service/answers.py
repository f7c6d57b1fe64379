"""What all parts of the service share about a request and an answer: its id, and the form of every error."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Message, Receive, Scope, Send


def state(scope: Scope) -> dict[str, Any]:
    """What the parts that handle one request tell each other; handlers see it as request.state."""
    return scope.setdefault("state", {})


def request_id(scope: Scope) -> str:
    """The random name of this request, made when it is first asked for."""
    return state(scope).setdefault("request_id", str(uuid.uuid4()))


def image_id(scope: Scope, index: int) -> str:
    """What feedback calls one image of a batch, by its place in the request, from 0."""
    return f"{request_id(scope)}/{index}"


def error_answer(
    scope: Scope, status: int, name: str, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An answer in the form of every error: {error, detail, request_id}."""
    state(scope)["error"] = name
    body = {"error": name, "detail": detail, "request_id": request_id(scope)}
    return JSONResponse(body, status, headers)


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    name: str,
    detail: str,
    headers: dict[str, str] | None = None,
) -> None:
    """Send an error instead of what was asked for."""
    await error_answer(scope, status, name, detail, headers)(scope, receive, send)


# What the framework itself refuses, and what it says where its own words don't tell what to do.
HTTP_ERRORS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
DETAILS = {404: "there is no such path: see those that /docs lists", 405: "this path takes other methods: see /docs"}


async def http_error(request: Request, error: Any) -> JSONResponse:
    """Starlette's own errors (unknown path, wrong method, broken form) in the form of all others."""
    name = HTTP_ERRORS.get(error.status_code, "bad_request" if error.status_code < 500 else "internal_error")
    detail = DETAILS.get(error.status_code, str(error.detail))
    return error_answer(request.scope, error.status_code, name, detail, error.headers)


class UnknownPath(BaseRoute):
    """The last route: answers 404 in the form of all errors where no other route has the path.

    Without it nothing here matches, and BentoML answers in its own form, or redirects to the path without its last "/".
    It matches in part only, as a route does whose method is another, so it stands back behind any that matches more.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.PARTIAL if scope["type"] == "http" else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(404)


def is_start(message: Message) -> bool:
    return message["type"] == "http.response.start"
