import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mri.tracking import run as tracking
from mri.tracking import store
from mri.tracking.run import track
from tests.conftest import ROOT, file_size_limit

GIT_COMMIT = "git -c user.name=a -c user.email=a@b commit --allow-empty -qm a"


def runs(**tags: str) -> list:
    """Return the local runs with these tags."""
    client, experiment = store.connect(store.local_uri())
    return [run for run in client.search_runs([experiment]) if tags.items() <= run.data.tags.items()]


def artifact(run, path: str) -> Path:
    return Path(store.connect(store.local_uri())[0].download_artifacts(run.info.run_id, path))


def test_a_run_keeps_parameters_metrics_per_epoch_and_files_as_they_were(tmp_path):
    with track("train@small", {"data": "made"}) as tracked:
        tracked.params({"train": {"lr": 0.1, "phases": [1, 2]}})
        tracked.metrics({"train": {"loss": 3.0, "precision": "fp32"}}, step=1)
        tracked.metrics({"train": {"loss": 2.0}}, step=2)
        (tmp_path / "table.csv").write_text("before")
        tracked.file(tmp_path / "table.csv", "plots")
        (tmp_path / "table.csv").write_text("after")
        tracked.file(tmp_path / "nothing.csv")
    (run,) = runs(kind="architecture")
    assert run.info.run_name == "small" and run.info.status == "FINISHED"
    assert run.data.params == {"train.lr": "0.1", "train.phases": "[1, 2]"}
    assert run.data.tags["data"] == "made" and run.data.tags["stage"] == "train"
    history = store.connect(store.local_uri())[0].get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0)]
    assert run.info.artifact_uri.startswith((tmp_path / "mlruns").as_uri())
    assert artifact(run, "plots/table.csv").read_text() == "before"


def test_a_run_knows_the_machine_the_packages_the_commit_and_the_data(tmp_path):
    (tmp_path / "artifacts/splits").mkdir(parents=True)
    (tmp_path / "artifacts/splits/index.csv").write_text("id\n")
    subprocess.run(f"git init -q && {GIT_COMMIT}", shell=True, check=True)
    with track("train@small", {}):
        pass
    (run,) = runs(kind="architecture")
    assert run.data.tags["data_version"] == "984a644ec3b5"  # of the SHA-256 of the text above
    assert run.data.tags["git_commit"] == run.data.tags["mlflow.source.git.commit"] == tracking.commit() != ""
    environment = json.loads(artifact(run, "environment/train.json").read_text())
    assert environment["python"] == sys.version.split()[0] and environment["cores"] >= 1
    assert environment["packages"]["mlflow"] and environment["packages"]["torch"]


def test_what_the_pipeline_writes_does_not_make_a_commit_another(tmp_path):
    (tmp_path / "metrics/details").mkdir(parents=True)
    for name in ("metrics/details/summary.json", "dvc.lock", "code.py"):
        (tmp_path / name).write_text("1")
    subprocess.run(f"git init -q && git add . && {GIT_COMMIT}", shell=True, check=True)
    (tmp_path / "metrics/details/summary.json").write_text("2")
    (tmp_path / "dvc.lock").write_text("2")
    assert not tracking.commit().endswith("+")
    (tmp_path / "code.py").write_text("2")
    assert tracking.commit().endswith("+")


def test_stages_of_one_network_share_a_run_below_the_run_of_the_pipeline():
    for stage in ("train", "evaluate"):
        with track(f"{stage}@small", {}) as tracked:
            tracked.metrics({stage: 1.0})
    with track("train@large", {}), track("select", {"winner": "small"}) as tracked:
        tracked.metrics({"winner": 0.5})
    (parent,) = runs(kind="pipeline")
    (small,) = runs(architecture="small")
    assert small.data.metrics == {"train": 1.0, "evaluate": 1.0} and small.data.tags["stage"] == "evaluate"
    assert parent.data.metrics == {"winner": 0.5} and parent.data.tags["winner"] == "small"
    children = runs(**{"mlflow.parentRunId": parent.info.run_id})
    assert {run.info.run_name for run in children} == {"small", "large"}
    assert {run.info.status for run in runs()} == {"FINISHED"}


@pytest.mark.parametrize("change", ["parameters", "experiment", "commit"])
def test_another_pipeline_run_gets_runs_of_its_own(tmp_path, monkeypatch, change):
    subprocess.run(f"git init -q && {GIT_COMMIT}", shell=True, check=True)
    with track("train@small", {}):
        pass
    if change == "parameters":
        (tmp_path / "params.yaml").write_text("seed: 1")
    elif change == "experiment":
        monkeypatch.setenv("DVC_EXP_NAME", "bold-idea")
    else:
        subprocess.run(f"{GIT_COMMIT} --date 2001-01-01T00:00", shell=True, check=True)
    with track("train@small", {}):
        pass
    assert len({run.data.tags["pipeline"] for run in runs()}) == len(runs(kind="pipeline")) == 2


def test_a_teacher_is_not_the_network_of_the_same_name():
    with track("train@small", {}), track("teacher@small", {}):
        pass
    assert {run.info.run_name for run in runs(architecture="small")} == {"small", "teacher small"}
    assert len(runs(kind="teacher")) == 1


@pytest.mark.parametrize(("fault", "status"), [(KeyError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_fails_is_marked_and_the_fault_goes_on(fault, status):
    with pytest.raises(fault), track("train@small", {}):
        raise fault
    assert {run.info.status for run in runs()} == {status}


@pytest.mark.slow
def test_processes_that_start_together_on_an_empty_store_make_one_parent():
    Path("mlflow.db").unlink()
    program = "import sys; from mri.tracking.run import track\nwith track(f'train@{sys.argv[1]}', {}) as run: pass"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, name],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("small", "large", "large")
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0)] * 3
    assert len(runs(kind="pipeline")) == 1
    assert sorted(run.info.run_name for run in runs(kind="architecture")) == ["large", "small"]


def test_a_locked_database_is_waited_for(capsys):
    with track("train@small", {}) as tracked:
        writer = sqlite3.connect("mlflow.db", isolation_level=None, check_same_thread=False)
        writer.execute("BEGIN IMMEDIATE")
        threading.Timer(1, writer.rollback).start()
        tracked.metrics({"loss": 1.0})
    assert runs(kind="architecture")[0].data.metrics == {"loss": 1.0}
    assert capsys.readouterr().err == ""


def test_a_stage_goes_on_with_one_line_when_the_store_cannot_be_opened(tmp_path, capsys):
    (tmp_path / "mlflow.db").write_text("no database " * 100)
    with track("train@small", {}) as tracked:
        tracked.metrics({"loss": 1.0})
        tracked.model(lambda folder: pytest.fail("written for nothing"), "tumours", "champion")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not tracked: ")


@pytest.mark.parametrize("moment", ["at the beginning", "later"])
def test_a_stage_goes_on_with_one_line_when_the_disk_is_full(capsys, moment):
    if moment == "at the beginning":
        with file_size_limit(1), track("train@small", {}) as tracked:
            tracked.metrics({"loss": 1.0})
    else:
        with track("train@small", {}) as tracked:
            with file_size_limit(1):
                tracked.metrics({"loss": 1.0})
                tracked.file(Path(__file__))
            tracked.metrics({"loss": 2.0})
        assert runs(kind="architecture")[0].data.metrics == {"loss": 2.0}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not tracked: ")


def test_another_value_of_a_parameter_is_refused_in_a_line_and_the_rest_is_tracked(capsys):
    for rate in (0.1, 0.2):
        with track("train@small", {}) as tracked:
            tracked.params({"lr": rate})
            tracked.metrics({"loss": rate})
    (run,) = runs(kind="architecture")
    assert run.data.params == {"lr": "0.1"} and run.data.metrics == {"loss": 0.2}
    (line,) = capsys.readouterr().err.splitlines()
    assert "'lr'" in line


def test_nested_names_are_dotted():
    assert tracking.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
