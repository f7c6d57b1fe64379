"""The body that every error has, {error, detail, request_id}, and which exception becomes which error."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from mri.base.errors import UserError
from mri.data.images import ImageError
from mri.inference.package import UnknownModelError
from service.context import request_id, state

RETRY_AFTER = {"Retry-After": "1"}
# Errors of the web framework, and what to say where its own words don't tell what to do.
HTTP_ERRORS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
HTTP_DETAILS = {
    404: "there is no such path: /docs lists all paths",
    405: "this path takes other methods: see /docs",
}
# What to say for a kind of pydantic error whose own words don't tell what to send.
FIELD_DETAILS = {
    "missing": "is missing: send it",
    "value_error": "should be a file, sent with a file name",  # FastAPI's: none of our other fields raises it
    "json_invalid": "should be JSON",
    "model_attributes_type": "should be a JSON object",
    "string_type": "should be text",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "float_parsing": "should be a number",
}


class BadRequestError(UserError):
    """A field of the request has a wrong value."""


class UnknownRequestError(UserError):
    """Feedback names a request that the monitoring store doesn't have."""


class StoreUnavailableError(UserError):
    """The monitoring store can't be used at the moment."""


class BusyError(Exception):
    """Too many requests are in progress to take another."""


# The mistakes of a client. Any other UserError is the service's own fault: a model that can't be loaded.
MISTAKES: list[tuple[type[UserError], int, str]] = [
    (UnknownModelError, 404, "unknown_model"),
    (UnknownRequestError, 404, "unknown_request"),
    (BadRequestError, 400, "bad_request"),
    (ImageError, 422, "unreadable_image"),
    (StoreUnavailableError, 503, "store_unavailable"),
]


def error_response(
    scope: Scope, status: int, name: str, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return an error answer, and note its name for the monitoring."""
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
    """Send an error from middleware, in place of the application's answer."""
    await error_response(scope, status, name, detail, headers)(scope, receive, send)


def add_handlers(app: FastAPI) -> None:
    """Let the application answer all errors in the same form; call it after all routes were added."""
    app.router.routes.append(_UnknownPath())
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(BusyError, _busy)


class _UnknownPath(BaseRoute):
    """The last route: raises 404 where no other route has the path.

    Without it BentoML would answer, in its own form, or redirect to the path without its last "/". It matches only
    partially, as a route with another method does, so any route that matches better comes first.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.PARTIAL if scope["type"] == "http" else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(404)


async def _http_error(request: Request, error: Any) -> JSONResponse:
    """Answer Starlette's own errors: unknown path, wrong method, broken form."""
    name = HTTP_ERRORS.get(error.status_code, "bad_request" if error.status_code < 500 else "internal_error")
    detail = HTTP_DETAILS.get(error.status_code, str(error.detail))
    return error_response(request.scope, error.status_code, name, detail, error.headers)


async def _busy(request: Request, error: Exception) -> JSONResponse:
    return error_response(request.scope, 503, "busy", "too many requests are in progress: try again soon", RETRY_AFTER)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    for kind, status, name in MISTAKES:
        if isinstance(error, kind):
            return error_response(request.scope, status, name, str(error))
    return error_response(request.scope, 503, "model_unavailable", str(error))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(request.scope, 400, "bad_request", _field_detail(error.errors()[0]))


def _field_detail(problem: Any) -> str:
    """Return one of pydantic's errors as a sentence that says what to send."""
    kind, message = problem["type"], problem["msg"]
    path = [] if kind == "json_invalid" else problem["loc"][1:]  # of broken JSON it is a character's position
    name = ".".join(str(part) for part in path) or "the body"
    _, should, rest = message.partition(" should ")
    return f"{name} {FIELD_DETAILS.get(kind) or (should.lstrip() + rest if should else f'is wrong: {message}')}"
