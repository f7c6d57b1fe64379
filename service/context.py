"""What the parts that handle one request share: its id, and its state."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.types import Message, Scope


def state(scope: Scope) -> dict[str, Any]:
    """Return the state that all parts handling a request share; route handlers see it as request.state.

    request_id: see below. model: the network that was asked, once it is known. predictions: a list of an `ImageResult`
    or an `ImageError` for each image. again: whether the image was sent before. error: the short name of the error that
    was answered.
    """
    return scope.setdefault("state", {})


def request_id(scope: Scope) -> str:
    """Return the random id of a request, created on first use."""
    return state(scope).setdefault("request_id", str(uuid.uuid4()))


def image_id(scope: Scope, index: int) -> str:
    """Return the id that feedback uses for one image of a batch. index: its place in the request, from 0."""
    return f"{request_id(scope)}/{index}"


def is_start(message: Message) -> bool:
    """Return whether an ASGI message starts an answer: it carries the status and the headers."""
    return message["type"] == "http.response.start"
