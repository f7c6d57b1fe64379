"""Fixtures for remote sources: a local server, no waiting, and neither cache nor account of the user."""

import pytest

from mri.data.sources import _http, _kagglehub
from tests.data.sources import loopback


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_http, "PAUSE", 0)
    monkeypatch.setattr(_kagglehub, "PAUSE", 0)
    with loopback.serve() as running:
        yield running


@pytest.fixture
def kaggle_server(server, monkeypatch, tmp_path):
    """A server that kagglehub uses in place of Kaggle, with the cache in a temporary folder."""
    from kagglesdk import kaggle_env

    # kagglesdk knows Kaggle's own addresses only; this one is meant for a Kaggle on the same machine, on port 80.
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, server.url)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    return server
