"""`bentoml serve` as its users start it, on a free port of loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil


@contextlib.contextmanager
def running(arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> Iterator[str]:
    """The address of `bentoml serve ARGUMENTS` in a folder, once it is ready; it ends with the block."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", *arguments, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as said:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{address}/readyz").status_code == 200:
                        break
                assert server.poll() is None, log.read_text()
                time.sleep(0.2)
            yield address
        finally:
            processes = psutil.Process(server.pid).children(recursive=True)  # workers lead sessions of their own
            os.killpg(server.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            for process in (server, *processes):
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                    process.kill()
            server.wait()
