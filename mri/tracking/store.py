"""The MLflow stores: the database in the repository that stages log to, and the server that `make sync` copies to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from mri.base.errors import UserError
from mri.base.paths import repository

if TYPE_CHECKING:  # importing MLflow takes seconds
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "brain-tumour-mri"
CUSTOM_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # the view that MLflow's page opens with

# A server that is away costs seconds, not the quarter of an hour of MLflow's own defaults. Requests are not retried
# blindly: a "create run" whose answer was lost would create a second run.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # errors are raised as well, and reported in one line


def database() -> Path:
    return repository() / "mlflow.db"


def local_uri() -> str:
    return f"sqlite:///{database()}"


def tracking_uri() -> str:
    """Return $MLFLOW_TRACKING_URI, the address of $DAGSHUB_REPO, or that of the local store.

    DagsHub's password is $DAGSHUB_USER_TOKEN, its user $DAGSHUB_USERNAME or the repository's owner. Raises UserError
    for a DAGSHUB_REPO that isn't owner/name or comes without a token.
    """
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return os.environ["MLFLOW_TRACKING_URI"]
    if not os.environ.get("DAGSHUB_REPO"):
        return local_uri()
    owner, _, name = os.environ["DAGSHUB_REPO"].partition("/")
    if not owner or not name or "/" in name:
        raise UserError(f"DAGSHUB_REPO must be owner/name, got {os.environ['DAGSHUB_REPO']!r}")
    if not os.environ.get("DAGSHUB_USER_TOKEN"):
        raise UserError("DAGSHUB_REPO needs a token of DagsHub: set DAGSHUB_USER_TOKEN")
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", os.environ.get("DAGSHUB_USERNAME", owner))
    os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", os.environ["DAGSHUB_USER_TOKEN"])
    host = os.environ.get("DAGSHUB_CLIENT_HOST", "https://dagshub.com").rstrip("/")
    return f"{host}/{owner}/{name}.mlflow"


def lock() -> FileLock:
    """Return the lock to hold while the local store is opened and runs are found or created in it.

    Stages may start at the same time: the first creates the tables, which fails when two do it at once.
    """
    return FileLock(f"{database()}.lock", timeout=60)


def connect(uri: str) -> tuple[MlflowClient, str]:
    """Return a client of a store and the id of the project's experiment there, which is created when missing."""
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return client, experiment.experiment_id
    artifacts = (repository() / "mlruns").as_uri() if uri.startswith("sqlite:") else None
    return client, client.create_experiment(EXPERIMENT, artifacts, CUSTOM_TRAINING)


def find_run(client: MlflowClient, experiment: str, **tags: str) -> Run | None:
    """Return the oldest run with these tags."""
    query = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    runs = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time ASC"])
    return runs[0] if runs else None


def register(client: MlflowClient, run_id: str, name: str, alias: str) -> None:
    """Give an alias to the registered version that is the model of a run; create what is missing."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = [version for version in client.search_model_versions(f"name = '{name}'") if version.run_id == run_id]
    if not versions:
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        versions = [client.create_model_version(name, source, run_id)]
    client.set_registered_model_alias(name, alias, versions[0].version)


def in_one_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
