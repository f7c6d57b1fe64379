"""Copy tracked runs to an MLflow server: python -m mri.tracking.sync (`make sync`, and the end of `make repro`)

The server is $MLFLOW_TRACKING_URI, or DagsHub's for $DAGSHUB_REPO (owner/name) with $DAGSHUB_USER_TOKEN. Runs that it
has already are left alone, so the command may be repeated or interrupted. What the server refuses doesn't hold up the
rest; the exit code is 2 when something is left. First, the run of this commit gets its dvc.lock: no stage can track it,
as DVC writes a stage's entry after the stage.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from filelock import FileLock

from mri.base.cli import Parser, guarded
from mri.base.errors import UserError
from mri.base.paths import LOCK
from mri.tracking import registry, store
from mri.tracking.run import digest, pipeline_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

COPY_OF, PARENT = "local_run", "mlflow.parentRunId"  # tags
ALL = 50_000  # the most that MLflow's search returns


def sync(uri: str, local: MlflowClient, experiment: str) -> tuple[int, list[str]]:
    """Copy every run that the server doesn't have as it is; return how many, and a line for what is left.

    Raises UserError when the server can't be used at all.
    """
    copied, left = 0, []
    with FileLock(f"{store.database()}.sync.lock"):  # two that copy at once would both create a run's copy
        try:
            server, target = store.connect(uri)
        except Exception as error:  # whatever MLflow raises
            raise UserError(_unusable(uri, error)) from None
        for run in local.search_runs([experiment], max_results=ALL, order_by=["attributes.start_time ASC"]):
            try:
                copied += _copy(run, local, server, target)
            except Exception as error:  # noqa: PERF203  # whatever MLflow raises
                reason = store.in_one_line(error)
                left.append(f"{uri} doesn't take run {run.info.run_name} ({reason})")
                if not _answers(server):
                    return copied, [f"{uri} stopped answering: repeat `make sync` ({reason})"]
    return copied, left


def _copy(run: Run, local: MlflowClient, server: MlflowClient, target: str) -> bool:
    """Bring a run's copy in the experiment `target` up to date; return False when it is. May be repeated.

    The state goes last: a copy is complete when its state and time of end are the run's. Raises what MLflow raises.
    """
    from mlflow.entities import Metric, Param, RunTag

    run_id, copy = run.info.run_id, _counterpart(run, local, server, target)
    state, copy_id = (run.info.status, run.info.end_time), copy.info.run_id
    if state == (copy.info.status, copy.info.end_time) and run.info.status != "RUNNING":
        return False
    history = [point for name in run.data.metrics for point in local.get_metric_history(run_id, name)]
    server.log_batch(  # points that are there already are not added again
        copy_id,
        [Metric(point.key, point.value, point.timestamp, point.step) for point in history],
        [Param(key, value) for key, value in run.data.params.items()],
        [RunTag(key, value) for key, value in run.data.tags.items() if key != PARENT],
    )
    if local.list_artifacts(run_id):
        server.log_artifacts(copy_id, local.download_artifacts(run_id, ""))  # which are read where they are
    for version in local.search_model_versions(f"run_id = '{run_id}'"):
        if registry.ALIAS in local.get_model_version(version.name, version.version).aliases:
            _register(server, copy_id, version.name)
    server.set_terminated(copy_id, *state)
    return True


def _counterpart(run: Run, local: MlflowClient, server: MlflowClient, target: str) -> Run:
    """Return the copy of a run, created when missing, below the copy of its parent."""
    copy = store.find_run(server, target, **{COPY_OF: run.info.run_id})
    if copy is not None:
        return copy
    tags = run.data.tags | {COPY_OF: run.info.run_id}
    if PARENT in tags:
        tags[PARENT] = _counterpart(local.get_run(tags[PARENT]), local, server, target).info.run_id
    return server.create_run(target, run.info.start_time, tags, run.info.run_name)


def _register(server: MlflowClient, run_id: str, name: str) -> None:
    """Register the winner, or report that the server has no model registry, as DagsHub's at times."""
    from mlflow.exceptions import MlflowException

    try:
        store.register(server, run_id, name, registry.ALIAS)
    except MlflowException as error:
        if error.error_code not in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED") and "error code 405 " not in str(error):
            raise
        print(f"warning: the server has no model registry ({store.in_one_line(error)})", file=sys.stderr)


def _answers(server: MlflowClient) -> bool:
    try:
        server.search_experiments(max_results=1)
    except Exception:  # whatever MLflow raises
        return False
    return True


def _unusable(uri: str, error: Exception) -> str:
    if getattr(error, "error_code", "") not in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return f"{uri} can't be used; the runs are kept, repeat `make sync` ({store.in_one_line(error)})"
    if uri == os.environ.get("MLFLOW_TRACKING_URI"):
        return f"{uri} refuses the token in $MLFLOW_TRACKING_TOKEN (or $MLFLOW_TRACKING_PASSWORD)"
    return f"{uri} refuses the token in $DAGSHUB_USER_TOKEN"


def attach_lock(local: MlflowClient, experiment: str) -> None:
    """Give the run of this commit and these parameters dvc.lock, and its digest as the tag dvc_lock."""
    run = store.find_run(local, experiment, pipeline=pipeline_id(), kind="pipeline")
    if run is not None and LOCK.is_file() and run.data.tags.get("dvc_lock") != digest(LOCK):
        local.log_artifact(run.info.run_id, str(LOCK))
        local.set_tag(run.info.run_id, "dvc_lock", digest(LOCK))
        local.set_terminated(run.info.run_id, run.info.status)  # a new time of end: an earlier copy is outdated


def main() -> None:
    example = "Example: MLFLOW_TRACKING_URI=http://tracking.example.org:5000 python -m mri.tracking.sync"
    Parser("mri.tracking.sync", __doc__, example).parse_args()
    try:
        with store.lock():
            local, experiment = store.connect(store.local_uri())
        attach_lock(local, experiment)
    except Exception as error:  # whatever MLflow raises
        raise UserError(f"{store.database()} can't be used ({store.in_one_line(error)})") from None
    uri = store.tracking_uri()
    if not uri.startswith(("http://", "https://")):
        print("runs stay in mlflow.db: neither MLFLOW_TRACKING_URI nor DAGSHUB_REPO names a server")
        return
    copied, left = sync(uri, local, experiment)
    print(f"copied {copied} runs to {uri}")
    for line in left:
        print(f"error: {line}", file=sys.stderr)
    if left:
        sys.exit(2)


if __name__ == "__main__":
    guarded(main)
