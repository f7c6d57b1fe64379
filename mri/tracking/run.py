"""Experiment tracking with MLflow that can't hurt: a run is logged when that works and trained when it doesn't.

What a stage tracks is written to a journal (`mri.tracking.journal`) and sent from there (`mri.tracking.delivery` says
where to). When the server is away, or goes away, the journal stays, and `make sync` sends it later. Nothing here asks a
question or opens a browser.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from mri.base.hardware import describe
from mri.base.paths import DAGSHUB, LOCK, METRICS, PLOTS, SPLITS
from mri.tracking import journal
from mri.tracking.delivery import Delivery

# What the pipeline writes itself: changes there don't make a working tree another commit's.
WRITTEN = (LOCK, METRICS, PLOTS, DAGSHUB)
PIPELINE = "pipeline"  # the name of what is tracked by no stage but for all of them
KEPT = "not tracked yet, kept in .mlflow-journal for `make sync`"


class Run:
    """What one stage tracks of one run. The first failure is said in one line, and the stage goes on."""

    def __init__(self) -> None:
        self._journal: journal.Journal | None = None
        self._delivery: Delivery | None = None
        self._broken = False

    def params(self, values: dict[str, Any]) -> None:
        """Track nested parameters by their dotted names."""
        self._track({"params": {name: str(value)[:500] for name, value in flatten(values).items()}})

    def metrics(self, values: dict[str, Any], step: int | None = None) -> None:
        """Track the numbers among nested values by their names, "test/accuracy"; MLflow draws one prefix together."""
        flat = {name: float(value) for name, value in flatten(values, "/").items() if isinstance(value, int | float)}
        self._track({"metrics": flat, "step": step})

    def file(self, path: Path, folder: str = "") -> None:
        """Track a file as it is now, in a folder of the run; nothing where it doesn't exist."""
        if path.is_file():
            self._track_kept("file", lambda kept: kept.keep(path), {"name": path.name, "folder": folder})

    def content(self, content: dict[str, Any], path: str) -> None:
        """Track nested values as a JSON file of that path."""
        self._track({"content": content, "path": path})

    def model(self, save: Callable[[Path], Any], name: str, alias: str) -> None:
        """Register a model under a name and an alias. save: writes it, in MLflow's format, to a new folder."""

        def written(kept: journal.Journal) -> str:
            save(kept.folder / "model")
            return "model"

        self._track_kept("model", written, {"registered_as": name, "alias": alias})

    def _begin(self, name: str, tags: dict[str, str]) -> None:
        head = _head(name, tags)

        def begin() -> None:
            begun = journal.begin(name)
            begun.append(head)  # without it nobody would know whose the other events are
            self._journal, self._delivery = begun, Delivery(begun)
            journal.ran().write_text(head["pipeline"])

        self._attempt(begin, "not tracked")
        self.content(_environment(), f"environment/{name.partition('@')[0]}.json")

    def _track_kept(self, kind: str, keep: Callable[[journal.Journal], str], event: dict[str, Any]) -> None:
        def track() -> None:
            if self._journal is not None:
                self._journal.append({kind: keep(self._journal), "time": _now(), **event})

        self._attempt(track, "not tracked")
        self._send()

    def _track(self, event: dict[str, Any]) -> None:
        def track() -> None:
            if self._journal is not None:
                self._journal.append({"time": _now(), **event})

        self._attempt(track, "not tracked")
        self._send()

    def _send(self) -> None:
        if self._delivery is not None and not self._broken:
            self._attempt(self._delivery.send, KEPT)

    def _end(self, status: str) -> None:
        """A server that was away for a while may be back: all of it is tried once more."""
        if self._journal is None or self._delivery is None:
            return
        try:
            self._journal.append({"end": status, "time": _now()})
            self._delivery.send()
            self._journal.delete()
        except Exception as error:
            self._say(error, KEPT)
            self._journal.close()

    def _attempt(self, action: Callable[[], Any], failing: str = "not tracked") -> None:
        try:
            action()
        except Exception as error:  # a full disk, or whatever the tracking store throws: the stage goes on
            self._say(error, failing)

    def _say(self, error: Exception, failing: str) -> None:
        if not self._broken:
            line = str(error).strip().splitlines()[0] if str(error).strip() else ""
            print(f"{failing} ({type(error).__name__}: {line[:200]})", file=sys.stderr)
        self._broken = True


@contextmanager
def track(name: str, tags: dict[str, str]) -> Iterator[Run]:
    """What a stage tracks: "train@resnet50" of that network's run, "select" of the run of the whole pipeline.

    PIPELINE is the name of what no stage can, as it is known after the last one.

    A pipeline run is a git commit with the same parameters, or a DVC experiment; the processes of its stages find its
    MLflow runs, or make them.
    """
    tracked = Run()
    tracked._begin(name, tags)
    try:
        yield tracked
    except BaseException as error:
        tracked._end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracked._end("FINISHED")


def commit() -> str:
    """The checked-out git commit, with "+" when tracked files but the pipeline's own differ from it; "" outside git."""
    head = _git("rev-parse", "HEAD")
    own = [f":(exclude){path}" for path in WRITTEN]
    return head + ("+" if head and _git("status", "--porcelain", "--untracked-files=no", "--", ".", *own) else "")


def experiment_name() -> str:
    """The DVC experiment that this process belongs to; "" outside one."""
    return os.environ.get("DVC_EXP_NAME", "")


def pipeline(revision: str, experiment: str) -> str:
    """Which pipeline run is that of a commit (as `commit` returns it) or experiment with the parameters of now."""
    parts = (revision.rstrip("+"), digest(Path("params.yaml")), experiment)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def flatten(values: dict[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _head(name: str, tags: dict[str, str]) -> dict[str, Any]:
    """Which pipeline run and which network this is, and what identifies the code and the data."""
    stage, _, arch = name.partition("@")
    if os.environ.get("DVC_STAGE") == "teacher":
        stage = "teacher"
    revision, experiment = commit(), experiment_name()
    own = {
        "stage": stage,
        "git_commit": revision,
        "mlflow.source.git.commit": revision.rstrip("+"),
        "mlflow.source.name": "dvc.yaml" if stage == PIPELINE else f"stages/{stage}.py",
        "mlflow.user": _user(),
        "data_version": digest(SPLITS / "index.csv"),
        "dvc_exp": experiment,
    }
    return {
        "pipeline": pipeline(revision, experiment),
        "pipeline_name": experiment or " ".join(filter(None, ("pipeline", tags.get("data"), revision[:7]))),
        "kind": "pipeline" if not arch else "teacher" if stage == "teacher" else "architecture",
        "name": f"teacher {arch}" if stage == "teacher" else arch,
        "architecture": arch,
        "time": _now(),
        "tags": {key: value for key, value in {**tags, **own}.items() if value},
    }


def _environment() -> dict[str, Any]:
    """The machine and every installed package."""
    torch = sys.modules.get("torch")  # asked only where a stage uses it anyway
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []
    packages = sorted((found.metadata["Name"], found.version) for found in distributions())
    return {**describe(), "gpus": gpus, "command": sys.argv, "packages": dict(packages)}


def digest(path: Path) -> str:
    """Twelve hex digits of a file's SHA-256; "" where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return time.time_ns() // 1_000_000


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
