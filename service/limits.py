"""Limits on what one request, and all of them together, may cost. Beyond, a request is refused with a stable error:

- 413 body_too_large: counted as it arrives, whatever Content-Length says; 431 headers_too_large
- 415 unsupported_media_type: anything but what the route takes
- 408 upload_too_slow, 503 too_slow: the time of one request is up, before or after it had arrived
- 503 busy: too many requests, or too many explanations, are under way

What an image may cost (pixels, frames, decompression) is limited where it is read, in `mri.data.images`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.answers import is_start, refuse
from service.settings import Settings

# What each route that takes a body takes.
MEDIA_TYPES = {
    "/predict": "multipart/form-data",
    "/predict_batch": "multipart/form-data",
    "/feedback": "application/json",
}
MAX_HEADER_BYTES = 16_384
RETRY_AFTER = {"Retry-After": "1"}
# A client that is refused while it still sends gets to read the answer only if somebody takes what it sends.
DRAINED_BODIES, DRAIN_SECONDS = 4, 5.0

logger = logging.getLogger("service")


class BusyError(Exception):
    """Too much is under way to take in more."""


class Slots:
    """So many at a time; so many more may wait for their turn."""

    def __init__(self, running: int, waiting: int):
        self._free = asyncio.Semaphore(running)
        self._most = waiting
        self.waiting = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold a slot, after waiting for one. Raises BusyError when too many wait already."""
        if self._free.locked() and self.waiting >= self._most:
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
    """ASGI middleware: refuses what is beyond the settings' limits and turns a failure into a stable error."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.settings = app, settings
        self.under_way = 0

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
        """Why a request is refused before it is read: status, error, detail, headers."""
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return 431, "headers_too_large", f"the headers have more than {MAX_HEADER_BYTES} bytes", {}
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.settings.max_bytes:
            return *self._too_large(), {}
        expected = MEDIA_TYPES.get(scope["path"]) if scope["method"] == "POST" else None
        if expected and headers.get("content-type", "").split(";")[0].strip().lower() != expected:
            return 415, "unsupported_media_type", f"send {expected}", {}
        if expected and self.under_way >= self.settings.queue:
            return 503, "busy", "too many requests are under way: try again soon", RETRY_AFTER
        return None

    def _too_large(self) -> tuple[int, str, str]:
        return 413, "body_too_large", f"the body has more than {self.settings.max_bytes / 1e6:g} MB"

    async def _drain(self, receive: Receive) -> None:
        """Read on for a moment what is refused."""
        taken = 0

        async def rest() -> None:
            nonlocal taken
            while taken < DRAINED_BODIES * self.settings.max_bytes:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(rest(), DRAIN_SECONDS)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, for so long and on so many bytes."""
        exchange = _Exchange(receive, send, self.settings.max_bytes)
        counted = scope["path"] in MEDIA_TYPES
        self.under_way += counted
        task = asyncio.ensure_future(self.app(scope, exchange.receive, exchange.send))

        def end(done: asyncio.Future[None]) -> None:
            self.under_way -= counted  # a thread that can't be interrupted counts until it has ended
            if not done.cancelled() and done.exception() and exchange.closed:
                logger.info("a request failed after it had been answered: %s", type(done.exception()).__name__)

        task.add_done_callback(end)
        try:
            await asyncio.wait({task}, timeout=self.settings.seconds)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if exchange.too_large and not exchange.started:
            exchange.closed = True
            task.cancel()
            await self._drain(receive)
            await refuse(scope, receive, send, *self._too_large())
        elif not task.done():
            await self._time_is_up(scope, receive, send, exchange, task)
        elif task.exception():
            if exchange.started:
                raise task.exception()  # type: ignore[misc]
            logger.error("a request failed", exc_info=task.exception())
            await refuse(scope, receive, send, 500, "internal_error", "the service failed; the failure is logged")

    async def _time_is_up(
        self, scope: Scope, receive: Receive, send: Send, exchange: _Exchange, task: asyncio.Future[None]
    ) -> None:
        if exchange.started:  # the answer is on its way: let the client take it, but not for ever
            await asyncio.wait({task}, timeout=self.settings.seconds)
            task.cancel()
            return
        exchange.closed = True
        task.cancel()
        seconds = f"{self.settings.seconds:g} s"
        if not exchange.complete:
            detail = f"the body took more than {seconds}"
            await refuse(scope, receive, send, 408, "upload_too_slow", detail, {"Connection": "close"})
        else:
            detail = f"no answer within {seconds}: try again soon"
            await refuse(scope, receive, send, 503, "too_slow", detail, RETRY_AFTER)


class _Exchange:
    """Both directions of one request.

    started: the answer has begun. complete: the body has arrived. closed: nothing more may be sent.
    """

    def __init__(self, receive: Receive, send: Send, most: int):
        self._receive, self._send, self._left = receive, send, most
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
