"""The body that every error has, {error, detail, request_id}, and which exception becomes which error."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import bentoml
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from mri.base.errors import UserError
from mri.data.images import ImageError
from mri.inference.package import UnknownModelError
from service.context import request_id, state

RETRY_AFTER = {"Retry-After": "1"}
BUSY = (503, "busy", "too many requests are in progress: try again soon", RETRY_AFTER)
FAILED = (500, "internal_error", "the service failed; the failure is logged", None)
METHOD_NOT_ALLOWED = (405, "method_not_allowed", "this path takes other methods: see /docs")
# Errors of the pages' framework: their name, and what to say.
HTTP_ERRORS = {404: (404, "not_found", "there is no such path: /docs lists all paths"), 405: METHOD_NOT_ALLOWED}
# What to say for a kind of pydantic error whose own words don't tell what to send.
FIELD_DETAILS = {
    "missing": "is missing: send it",
    "is_instance_of": "should be a file, sent with a file name (filename=, not filename*=)",
    "json_invalid": "should be JSON",
    "model_type": "should be a JSON object",
    "string_type": "should be text",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "float_parsing": "should be a number",
}

logger = logging.getLogger("service")


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
    (UserError, 503, "model_unavailable"),
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


def response_to(scope: Scope, error: BaseException) -> JSONResponse:
    """Return the answer to a request that raised `error`; what isn't a client's mistake is logged."""
    if isinstance(error, BusyError):
        return error_response(scope, *BUSY)
    if isinstance(error, HTTPException) and error.status_code in HTTP_ERRORS:
        return error_response(scope, *HTTP_ERRORS[error.status_code], dict(error.headers or {}))
    for kind, status, name in MISTAKES:
        if isinstance(error, kind):
            return error_response(scope, status, name, str(error))
    logger.error("a request failed", exc_info=error)
    return error_response(scope, *FAILED)


def answering_errors(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Let a method of the API answer what it raises in the stable form, where BentoML would answer in its own."""

    @functools.wraps(method)
    async def answered(self: Any, ctx: bentoml.Context, **fields: Any) -> Any:
        try:
            return await method(self, ctx, **fields)
        except Exception as error:
            return replied(ctx, response_to(ctx.request.scope, error))

    return answered


def replied(ctx: bentoml.Context, response: Response) -> Response:
    """Return a response of an API method's own making; BentoML would change its status to that of the context."""
    ctx.response.status_code = response.status_code
    return response


async def _handle(request: Request, error: Exception) -> JSONResponse:
    return response_to(request.scope, error)


# Of the application behind the pages.
HANDLERS: dict[Any, Any] = {UserError: _handle, HTTPException: _handle, BusyError: _handle}


class UnknownPath(BaseRoute):
    """The last route: raises 404 where no other route has the path.

    Without it BentoML would answer, in its own form, or redirect to the path without its last "/". It matches only
    partially, as a route with another method does, so any route that matches better comes first.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.PARTIAL if scope["type"] == "http" else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(404)


def wrong_fields(error: ValidationError, schema: type[BaseModel]) -> BadRequestError:
    """Return the first of pydantic's errors as a sentence that says what to send."""
    problem = error.errors()[0]
    kind, message = problem["type"], problem["msg"]
    name = ".".join(str(part) for part in problem["loc"]) or "the body"
    if kind == "extra_forbidden":
        return BadRequestError(
            f"{name[:64]!r} is no field of this path: its fields are {', '.join(schema.model_fields)}"
        )
    _, should, rest = message.partition(" should ")
    return BadRequestError(
        f"{name} {FIELD_DETAILS.get(kind) or (should.lstrip() + rest if should else f'is wrong: {message}')}"
    )
