"""Shared fixtures of the service's tests: one predictor and one running application."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import expect

from service.predictor import Predictor
from tests import packages

expect.set_options(timeout=30_000)  # a busy machine is no failure


@pytest.fixture(scope="session")
def predictor(package: Path) -> Predictor:
    """A predictor over the package of two networks; not to be changed."""
    return Predictor(package)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shared application's monitoring store."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="session")
def app(predictor: Predictor, folder: Path) -> FastAPI:
    return packages.application(predictor, folder)


@pytest.fixture(scope="session")
def client(app: FastAPI) -> TestClient:
    return TestClient(app)


@pytest.fixture(scope="session")
def url(app: FastAPI) -> Iterator[str]:
    with running(app) as address:
        yield address


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an application in a thread and yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
