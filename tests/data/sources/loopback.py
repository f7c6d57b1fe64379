"""A local HTTP server that behaves like the archives, and fails in the ways a test sets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Resource:
    """What a path answers.

    break_after: the first answer stops after so many bytes, the connection closed. status: instead of content.
    failures: so many requests are answered with 503 first. ranges: whether Range requests are honoured.
    """

    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None
    status: int = 200
    failures: int = 0
    ranges: bool = True


class Server(ThreadingHTTPServer):
    """A server on a free port. resources: by path. requests: (method, path, Range header) as they came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.resources: dict[str, Resource] = {}
        self.requests: list[tuple[str, str, str]] = []


class Handler(BaseHTTPRequestHandler):
    """Answers GET and POST from the server's resources."""

    server: Server

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer("POST")

    def log_message(self, *args) -> None:
        pass

    def answer(self, method: str) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append((method, self.path, asked))
        resource = self.server.resources.get(self.path, Resource(status=404))
        if resource.failures:
            resource.failures -= 1
            self.reply(503, b"", {})
        elif resource.status != 200:
            self.reply(resource.status, b"", resource.headers)
        else:
            self.send(resource, asked)

    def send(self, resource: Resource, asked: str) -> None:
        content, status, headers = resource.content, 200, dict(resource.headers)
        if asked and resource.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        stop, resource.break_after = resource.break_after, None
        self.reply(status, content, headers, stop)

    def reply(self, status: int, content: bytes, headers: dict[str, str], stop: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:stop])
        if stop is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server in a thread."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
