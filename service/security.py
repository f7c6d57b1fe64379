"""Keys, other websites, and the HTTP headers of every answer: ASGI middleware around the whole service."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.context import is_start
from service.errors import refuse
from service.limits import MEDIA_TYPES
from service.settings import Settings

MONITORING_PATHS = ("/monitoring", "/api/monitoring", "/metrics")

# Pages consist of this service's files alone: no inline script, no other website, no frame around them.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
# For the files of pages. A browser keeps them but asks whether they changed, so that after an upgrade it never mixes
# old scripts with new ones.
REVALIDATED = {"Cache-Control": "no-cache"}


class SecurityHeaders:
    """Add HEADERS to every answer that doesn't set them itself."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if is_start(message):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class Access:
    """Refuse requests without the key, where one is set, and requests made by pages of other websites.

    A key comes as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or as the password of HTTP Basic authentication
    (with any user name), for which browsers ask by themselves. It is never part of an address, and never logged.
    paths: those that are guarded; all by default.
    """

    def __init__(self, app: ASGIApp, settings: Settings, paths: Collection[str] | None = None):
        self.app, self.settings, self.paths = app, settings, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (self.paths is None or scope["path"] in self.paths):
            headers = Headers(scope=scope)
            if self._is_cross_site(scope, headers):
                await refuse(scope, receive, send, 403, "other_website", "pages of other websites may not ask")
                return
            key, realm = self._required_key(scope["path"])
            if key and scope["method"] != "OPTIONS" and not _has_key(headers, key):
                challenge = f'Basic realm="{realm}", charset="UTF-8"'
                detail = "a key is needed: send it as Authorization: Bearer KEY"
                await refuse(scope, receive, send, 401, "unauthorised", detail, {"WWW-Authenticate": challenge})
                return
        await self.app(scope, receive, send)

    def _is_cross_site(self, scope: Scope, headers: Headers) -> bool:
        """Return whether a browser says that a page of another website sends this request."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS") or headers.get("origin") in self.settings.allowed_origins:
            return False
        return headers.get("sec-fetch-site") in ("cross-site", "same-site")

    def _required_key(self, path: str) -> tuple[str, str]:
        """Return the key that a path needs, "" for none, and the name of what it opens."""
        if path in MEDIA_TYPES:
            return self.settings.api_key, "predictions"
        if any(path == prefix or path.startswith(f"{prefix}/") for prefix in MONITORING_PATHS):
            return self.settings.monitoring_key, "monitoring"
        return "", ""


def _has_key(headers: Headers, key: str) -> bool:
    """Return whether a request brings the key, in the same time however much of it is right."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    offered = headers.get("x-api-key", "")
    if kind.lower() == "bearer":
        offered = value.strip()
    elif kind.lower() == "basic":
        try:
            offered = base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            offered = ""
    return hmac.compare_digest(*(text.encode("utf-8", "surrogateescape") for text in (offered, key)))
