"""What stages track, in the local MLflow store (mlflow.db and mlruns/): one run per network below one per pipeline run.

Tracking never fails a stage and never waits for a server: `mri.tracking.sync` copies the runs to one.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from mri.base.files import sha256
from mri.base.hardware import describe
from mri.base.paths import DAGSHUB, LOCK, METRICS, PLOTS, SPLITS
from mri.tracking import store

if TYPE_CHECKING:  # importing MLflow takes seconds
    from mlflow import MlflowClient

# What the pipeline writes itself: changes there don't make a working tree another commit's.
WRITTEN = (LOCK, METRICS, PLOTS, DAGSHUB)
LONGEST_PARAM = 500  # characters that every version of MLflow's server accepts

_Arguments = ParamSpec("_Arguments")


def _harmless(method: Callable[Concatenate[Run, _Arguments], None]) -> Callable[Concatenate[Run, _Arguments], None]:
    """Report what a method raises, in one line, and do nothing where the store couldn't be opened."""

    @wraps(method)
    def guarded(run: Run, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        try:
            if run.ids:
                method(run, *args, **kwargs)
        except Exception as error:  # a full disk, a locked database, whatever MLflow raises: the stage goes on
            run.report(error)

    return guarded


class Run:
    """The MLflow run of a stage. Its first failure is one line on stderr; none is raised."""

    def __init__(self, name: str, tags: dict[str, str]):
        self._client: MlflowClient
        self.ids: list[str] = []  # of the network's run, and of the pipeline's, which is above it
        self._reported = False
        try:
            self._open(name, tags)
        except Exception as error:
            self.report(error)

    @_harmless
    def params(self, values: dict[str, Any]) -> None:
        """Log nested parameters by their dotted names. MLflow refuses another value for one that is there."""
        from mlflow.entities import Param

        params = [Param(name, str(value)[:LONGEST_PARAM]) for name, value in flatten(values).items()]
        self._client.log_batch(self.ids[0], params=params)

    @_harmless
    def metrics(self, values: dict[str, Any], step: int = 0) -> None:
        """Log the numbers among nested values as "test/accuracy"; MLflow draws names with one prefix together."""
        from mlflow.entities import Metric

        now, flat = _now(), flatten(values, "/").items()
        metrics = [Metric(name, float(value), now, step) for name, value in flat if isinstance(value, int | float)]
        self._client.log_batch(self.ids[0], metrics)

    @_harmless
    def file(self, path: Path, folder: str = "") -> None:
        """Copy a file, as it is now, into a folder of the run; do nothing where it doesn't exist."""
        if path.is_file():
            self._client.log_artifact(self.ids[0], str(path), folder or None)

    @_harmless
    def model(self, save: Callable[[Path], Any], name: str, alias: str) -> None:
        """Register a model. save: writes it, in MLflow's format, to a new folder."""
        with tempfile.TemporaryDirectory() as temporary:
            save(Path(temporary) / "model")
            self._client.log_artifacts(self.ids[0], temporary)
        store.register(self._client, self.ids[0], name, alias)

    @_harmless
    def end(self, status: str) -> None:
        now = _now()
        for run_id in self.ids:
            self._client.set_terminated(run_id, status, now)

    def report(self, error: Exception) -> None:
        if not self._reported:
            print(f"not tracked: {store.in_one_line(error)}", file=sys.stderr)
        self._reported = True

    def _open(self, name: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        stage, _, architecture = name.partition("@")
        is_teacher = stage == "teacher"
        kind, title = ("teacher", f"teacher {architecture}") if is_teacher else ("architecture", architecture)
        tags = {key: value for key, value in (tags | _origin(stage)).items() if value}
        identity = {"pipeline": pipeline_id(), "kind": "pipeline"}
        pipeline = tags.get("dvc_exp") or " ".join(("pipeline", tags.get("data", ""), commit()[:7])).strip()
        with store.lock():
            self._client, experiment = store.connect(store.local_uri())
            ids = [_start(self._client, experiment, pipeline, identity, tags)]
            if architecture:
                identity |= {"kind": kind, "architecture": architecture}
                tags["mlflow.parentRunId"] = ids[0]
                ids.insert(0, _start(self._client, experiment, title, identity, tags))
        self.ids = ids
        self._client.log_batch(ids[0], tags=[RunTag(key, value) for key, value in tags.items()])
        self._client.log_dict(ids[0], _environment(), f"environment/{stage}.json")


def _start(client: MlflowClient, experiment: str, title: str, identity: dict[str, str], tags: dict[str, str]) -> str:
    """Return the id of the run with the tags `identity`, now running; create it when missing."""
    run = store.find_run(client, experiment, **identity)
    if run is None:
        return client.create_run(experiment, _now(), tags | identity, title).info.run_id
    client.update_run(run.info.run_id, status="RUNNING")
    return run.info.run_id


@contextmanager
def track(name: str, tags: dict[str, str]) -> Iterator[Run]:
    """Track a stage: "train@resnet50" in that network's run, "select" in the run of the whole pipeline.

    A pipeline run is a git commit with the same parameters, or a DVC experiment. The processes of its stages find its
    MLflow runs by their tags.
    """
    run = Run(name, tags)
    try:
        yield run
    except BaseException as error:
        run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    run.end("FINISHED")


def commit() -> str:
    """Return the checked-out commit, with "+" when tracked files that people write differ from it; "" outside git."""
    head = _git("rev-parse", "HEAD")
    excluded = [f":(exclude){path}" for path in WRITTEN]
    return head + ("+" if head and _git("status", "--porcelain", "--untracked-files=no", "--", ".", *excluded) else "")


def pipeline_id() -> str:
    """Return what identifies a pipeline run: a digest of commit, parameters and DVC experiment, as they are now."""
    parts = (commit().rstrip("+"), digest(Path("params.yaml")), os.environ.get("DVC_EXP_NAME", ""))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def flatten(values: dict[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Return {"a.b": 1} for {"a": {"b": 1}}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def digest(path: Path) -> str:
    """Return twelve hex digits of a file's SHA-256; "" where there is none."""
    return sha256(path)[:12] if path.is_file() else ""


def _origin(stage: str) -> dict[str, str]:
    """Return tags that identify the code, the data and the user."""
    revision = commit()
    return {
        "stage": stage,
        "git_commit": revision,
        "mlflow.source.git.commit": revision.rstrip("+"),
        "mlflow.source.name": f"stages/{stage}.py",
        "mlflow.user": os.environ.get("USER", ""),
        "data_version": digest(SPLITS / "index.csv"),
        "dvc_exp": os.environ.get("DVC_EXP_NAME", ""),
    }


def _environment() -> dict[str, Any]:
    """Return the machine and every installed package."""
    torch = sys.modules.get("torch")  # only where the stage has loaded it anyway
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []
    packages = sorted((package.metadata["Name"], package.version) for package in distributions())
    return {**describe(), "gpus": gpus, "command": sys.argv, "packages": dict(packages)}


def _now() -> int:
    """Return milliseconds since 1970, MLflow's unit of time."""
    return time.time_ns() // 1_000_000


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
