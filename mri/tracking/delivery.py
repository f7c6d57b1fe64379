"""Sending journals to MLflow: one run per network under a parent run per pipeline run, found by their tags.

Sending twice changes nothing: a metric that is there with its time and step is not added again.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from mri.base.errors import UserError
from mri.base.paths import repository
from mri.tracking.journal import Journal, store_lock

EXPERIMENT = "brain-tumour-mri"
CUSTOM_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # which of its views MLflow's page opens with
PARAMS_PER_REQUEST, METRICS_PER_REQUEST = 100, 1000  # MLflow's own limits

# A server that is away must cost seconds, not the quarter of an hour of MLflow's own defaults.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


def tracking_uri() -> str:
    """$MLFLOW_TRACKING_URI, or DagsHub's for $DAGSHUB_REPO, or mlflow.db (SQLite) in the repository.

    DagsHub's token comes from $DAGSHUB_USER_TOKEN, its user is $DAGSHUB_USERNAME or the repository's owner; nothing
    asks for them. Raises UserError for a DAGSHUB_REPO that is no owner/name.
    """
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return os.environ["MLFLOW_TRACKING_URI"]
    if not os.environ.get("DAGSHUB_REPO"):
        return f"sqlite:///{repository() / 'mlflow.db'}"
    owner, _, name = os.environ["DAGSHUB_REPO"].partition("/")
    if not owner or not name or "/" in name:
        raise UserError(f"DAGSHUB_REPO must be owner/name, got {os.environ['DAGSHUB_REPO']!r}")
    if "DAGSHUB_USER_TOKEN" in os.environ:
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", os.environ.get("DAGSHUB_USERNAME", owner))
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", os.environ["DAGSHUB_USER_TOKEN"])
    host = os.environ.get("DAGSHUB_CLIENT_HOST", "https://dagshub.com").rstrip("/")
    return f"{host}/{owner}/{name}.mlflow"


def answers(uri: str) -> bool:
    """Whether a tracking store answers at all, if only with a refusal."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        _knock(uri)
        with store_lock():
            MlflowClient(uri, uri).search_experiments(max_results=1)
    except MlflowException as error:
        return error.error_code != "INTERNAL_ERROR"  # which is what it makes of timeouts and lost connections
    except Exception:  # whatever else a store throws
        return False
    return True


class Delivery:
    """Sends one journal, in as many goes as it takes."""

    def __init__(self, journal: Journal):
        self._journal = journal
        self._sent = 1  # the first event says whose journal it is
        self._client: Any = None
        self._run = self._parent = ""

    def send(self) -> None:
        """Send what isn't sent yet. Raises whatever MLflow does when the store can't be reached."""
        events = self._journal.events()
        if self._client is None:
            if "pipeline" not in events[0]:
                raise ValueError("its first line is unreadable, and nothing else says whose run it is")
            self._connect(events[0])
        for event in events[self._sent :]:
            (kind,) = set(event) & set(_KINDS)
            _KINDS[kind](self, event)
            self._sent += 1

    def _connect(self, head: dict[str, Any]) -> None:
        from mlflow import MlflowClient

        uri = tracking_uri()
        _knock(uri)
        with store_lock():  # the first to open a database makes its tables, which two at once can't
            client = MlflowClient(uri, uri)
            experiment = _experiment(client, uri)
            tags = {"pipeline": head["pipeline"], "kind": "pipeline"}
            self._parent = self._run = _run(client, experiment, head["pipeline_name"], tags, head)
            if head["kind"] != "pipeline":
                tags |= {"kind": head["kind"], "architecture": head["architecture"]}
                self._run = _run(client, experiment, head["name"], tags, head, self._parent)
        self._client = client
        self._batch(tags=head["tags"])

    def _batch(
        self, metrics: list[Any] | None = None, params: list[Any] | None = None, tags: dict[str, str] | None = None
    ) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(
            self._run, metrics or [], params or [], [RunTag(key, value) for key, value in (tags or {}).items()]
        )

    def _metrics(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        points = [Metric(key, value, event["time"], event["step"] or 0) for key, value in event["metrics"].items()]
        for start in range(0, len(points), METRICS_PER_REQUEST):
            self._batch(metrics=points[start : start + METRICS_PER_REQUEST])

    def _params(self, event: dict[str, Any]) -> None:
        """MLflow refuses another value for a parameter that is there; the run goes on with the first."""
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        values = [Param(key, value) for key, value in event["params"].items()]
        try:
            for start in range(0, len(values), PARAMS_PER_REQUEST):
                self._batch(params=values[start : start + PARAMS_PER_REQUEST])
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            _say(f"the run has other parameters already: {_first_line(error)}")

    def _content(self, event: dict[str, Any]) -> None:
        self._client.log_dict(self._run, event["content"], event["path"])

    def _file(self, event: dict[str, Any]) -> None:
        kept = self._journal.folder / event["file"]
        shown = kept.with_name(event["name"])  # MLflow names an artifact after its file
        shown.hardlink_to(kept)
        try:
            self._client.log_artifact(self._run, str(shown), event["folder"] or None)
        finally:
            shown.unlink()

    def _model(self, event: dict[str, Any]) -> None:
        """The model's files go to the run; registering them may be more than a server can do (DagsHub's, at times)."""
        from mlflow.exceptions import MlflowException

        self._client.log_artifacts(self._run, str(self._journal.folder / event["model"]), "model")
        try:
            version = self._version(event["registered_as"])
            self._client.set_registered_model_alias(event["registered_as"], event["alias"], version)
        except MlflowException as error:
            if not _has_no_registry(error):
                raise
            _say(f"the winner is not registered: {_first_line(error)}")

    def _version(self, name: str) -> str:
        """The registered version that is this run's model; made when there is none."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for known in self._client.search_model_versions(f"name = '{name}'"):
            if known.run_id == self._run:
                return known.version
        source = f"{self._client.get_run(self._run).info.artifact_uri}/model"
        return self._client.create_model_version(name, source, self._run).version

    def _end(self, event: dict[str, Any]) -> None:
        for run in {self._run, self._parent}:
            self._client.set_terminated(run, event["end"], event["time"])


_KINDS: dict[str, Callable[[Delivery, dict[str, Any]], None]] = {
    "metrics": Delivery._metrics,
    "params": Delivery._params,
    "content": Delivery._content,
    "file": Delivery._file,
    "model": Delivery._model,
    "end": Delivery._end,
}


def _knock(uri: str) -> None:
    """Raises OSError within seconds when nobody listens there; HTTP's own time limits are longer."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.hostname:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname, port), timeout=3).close()


def _has_no_registry(error: Any) -> bool:
    """Whether an MlflowException says that its server has no such functions; all others may pass.

    MLflow names HTTP's 404 and 501, and not 405.
    """
    named = error.error_code in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
    return named or "failed with error code 405 " in str(error)


def _experiment(client: Any, uri: str) -> str:
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is not None:
        return known.experiment_id
    files = (repository() / "mlruns").as_uri() if uri.startswith("sqlite:") else None
    return client.create_experiment(EXPERIMENT, files, CUSTOM_TRAINING)


def _run(client: Any, experiment: str, name: str, tags: dict[str, str], head: dict, parent: str = "") -> str:
    """The id of the run with these tags, now running; made when there is none."""
    wanted = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    known = client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time ASC"])
    if known:
        client.update_run(known[0].info.run_id, status="RUNNING")
        return known[0].info.run_id
    below = {"mlflow.parentRunId": parent} if parent else {}
    return client.create_run(experiment, head["time"], {**tags, **head["tags"], **below}, name).info.run_id


def _say(line: str) -> None:
    print(f"tracking: {line}", file=sys.stderr)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
