"""Limits on the size, the time and the number of requests. A request beyond a limit is refused:

- 413 body_too_large: bytes are counted as they arrive, whatever Content-Length says
- 431 headers_too_large
- 415 unsupported_media_type: the route takes another one
- 408 upload_too_slow: the body didn't arrive in time
- 503 too_slow: there was no answer in time
- 503 busy: too many requests, or too many explanations, are in progress

`mri.data.images` limits what one image may cost (pixels, frames, decompression).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.context import is_start
from service.errors import RETRY_AFTER, BusyError, refuse
from service.settings import Settings

# The routes that take a body, and its type.
MEDIA_TYPES = {
    "/predict": "multipart/form-data",
    "/predict_batch": "multipart/form-data",
    "/feedback": "application/json",
}
MAX_HEADER_BYTES = 16_384
# A client that is refused while it still sends can read the answer only if the rest of its body is received: so many
# times the largest body, for so long.
DRAINED_BODIES, DRAIN_SECONDS = 4, 5.0

logger = logging.getLogger("service")


class Slots:
    """Let a number of tasks run at a time, and a number of others wait for their turn."""

    def __init__(self, running: int, waiting: int):
        self._free = asyncio.Semaphore(running)
        self._max_waiting = waiting
        self.waiting = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it. Raises BusyError when too many wait already."""
        if self._free.locked() and self.waiting >= self._max_waiting:
            raise BusyError
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class Limits:
    """ASGI middleware that refuses requests beyond the settings' limits and answers failures with an error."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.settings = app, settings
        self.in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await self._drain(receive)
            await refuse(scope, receive, send, *refusal)
            return
        await self._limited(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str, dict[str, str]] | None:
        """Return why a request is refused before its body is read: status, error, detail, headers."""
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return 431, "headers_too_large", f"the headers have more than {MAX_HEADER_BYTES} bytes", {}
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.settings.max_bytes:
            return *self._too_large(), {}
        expected = MEDIA_TYPES.get(scope["path"]) if scope["method"] == "POST" else None
        if expected and headers.get("content-type", "").split(";")[0].strip().lower() != expected:
            return 415, "unsupported_media_type", f"send {expected}", {}
        if expected and self.in_progress >= self.settings.queue:
            return 503, "busy", "too many requests are in progress: try again soon", RETRY_AFTER
        return None

    def _too_large(self) -> tuple[int, str, str]:
        return 413, "body_too_large", f"the body has more than {self.settings.max_megabytes:g} MB"

    async def _drain(self, receive: Receive) -> None:
        """Receive the rest of a refused request, for a while."""
        size = 0

        async def rest() -> None:
            nonlocal size
            while size < DRAINED_BODIES * self.settings.max_bytes:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(rest(), DRAIN_SECONDS)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application within the limits of time and size."""
        exchange = _Exchange(receive, send, self.settings.max_bytes)
        counted = scope["path"] in MEDIA_TYPES
        self.in_progress += counted
        task = asyncio.ensure_future(self.app(scope, exchange.receive, exchange.send))

        def end(task: asyncio.Future[None]) -> None:
            self.in_progress -= counted  # a thread that can't be interrupted counts until it has ended
            if not task.cancelled() and task.exception() and exchange.closed:
                logger.info("a request failed after it had been answered: %s", type(task.exception()).__name__)

        task.add_done_callback(end)
        try:
            await asyncio.wait({task}, timeout=self.settings.timeout_seconds)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if exchange.too_large and not exchange.started:
            exchange.closed = True
            task.cancel()
            await self._drain(receive)
            await refuse(scope, receive, send, *self._too_large())
        elif not task.done():
            await self._time_out(scope, receive, send, exchange, task)
        elif task.exception():
            if exchange.started:
                raise task.exception()  # type: ignore[misc]
            logger.error("a request failed", exc_info=task.exception())
            await refuse(scope, receive, send, 500, "internal_error", "the service failed; the failure is logged")

    async def _time_out(
        self, scope: Scope, receive: Receive, send: Send, exchange: _Exchange, task: asyncio.Future[None]
    ) -> None:
        if exchange.started:  # the answer is on its way: the client may receive it, but not for ever
            await asyncio.wait({task}, timeout=self.settings.timeout_seconds)
            task.cancel()
            return
        exchange.closed = True
        task.cancel()
        seconds = f"{self.settings.timeout_seconds:g} s"
        if not exchange.complete:
            detail = f"the body took more than {seconds}"
            await refuse(scope, receive, send, 408, "upload_too_slow", detail, {"Connection": "close"})
        else:
            detail = f"no answer within {seconds}: try again soon"
            await refuse(scope, receive, send, 503, "too_slow", detail, RETRY_AFTER)


class _Exchange:
    """The channels of one request, with the body's bytes counted.

    started: the answer has begun. complete: the body has arrived. closed: nothing more may be sent.
    too_large: the body has more than `max_bytes`.
    """

    def __init__(self, receive: Receive, send: Send, max_bytes: int):
        self._receive, self._send, self._left = receive, send, max_bytes
        self.started = self.complete = self.closed = self.too_large = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self._left < 0:
                self.too_large = True
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self.closed or (self.too_large and not self.started):
            return
        self.started = self.started or is_start(message)
        await self._send(message)
