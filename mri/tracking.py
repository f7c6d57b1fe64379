"""Experiment tracking with MLflow that can't hurt: a run is logged when that works and trained when it doesn't.

Where: $MLFLOW_TRACKING_URI, or mlflow.db (SQLite) in the repository. Nothing here asks a question or opens a browser.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mri.paths import repository

EXPERIMENT = "brain-tumour-mri"

# A server that is away must cost seconds, not the quarter of an hour of MLflow's own defaults.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


class Run:
    """One tracked run. The first failure is said in one line; after it nothing more is tried."""

    def __init__(self) -> None:
        self._broken = False

    def params(self, values: dict[str, Any]) -> None:
        """Log nested parameters by their dotted names."""
        import mlflow

        flat = {name: str(value)[:500] for name, value in flatten(values).items()}
        self.attempt(lambda: mlflow.log_params(flat))

    def metrics(self, values: dict[str, Any], step: int | None = None) -> None:
        """Log the numbers among nested values by their dotted names."""
        import mlflow

        flat = {name: float(value) for name, value in flatten(values).items() if isinstance(value, int | float)}
        self.attempt(lambda: mlflow.log_metrics(flat, step=step))

    def attempt(self, action: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:  # whatever the tracking store throws, training goes on
            self._broken = True
            line = str(error).strip().splitlines()[0] if str(error).strip() else ""
            print(f"not tracked, {type(error).__name__}: {line[:200]}", file=sys.stderr)


@contextmanager
def run(name: str, tags: dict[str, str]) -> Iterator[Run]:
    """A run called `name` ("train@resnet50") in the project's experiment, tagged with the git commit."""
    import mlflow

    tracked = Run()
    tracked.attempt(lambda: _start(name, tags))
    try:
        yield tracked
    except BaseException:
        tracked.attempt(lambda: mlflow.end_run("FAILED"))
        raise
    tracked.attempt(mlflow.end_run)


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{repository() / 'mlflow.db'}"


def _start(name: str, tags: dict[str, str]) -> None:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri())
    mlflow.set_experiment(EXPERIMENT)
    experiment = {"dvc_exp": os.environ["DVC_EXP_NAME"]} if "DVC_EXP_NAME" in os.environ else {}
    mlflow.start_run(run_name=name, tags={"git_commit": commit(), **experiment, **tags})


def commit() -> str:
    """The checked-out git commit, with "+" when tracked files differ from it; "" outside a repository."""
    head = _git("rev-parse", "HEAD")
    return head + ("+" if head and _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
