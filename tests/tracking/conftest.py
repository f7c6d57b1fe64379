import logging
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """A database with MLflow's tables, which take seconds to create."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def isolated_store(tmp_path, monkeypatch, empty_store):
    """Run each test in a temporary folder with an empty store and none of the user's settings."""
    for name in ("DVC_EXP_NAME", "DAGSHUB_REPO", "DAGSHUB_USER_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):  # which the code sets
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # as in a stage, where MLflow is imported last
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
