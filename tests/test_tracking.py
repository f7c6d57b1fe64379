import mlflow
import pytest

from mri import tracking


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts beside the caller


def test_a_run_keeps_parameters_metrics_per_epoch_and_the_commit():
    with tracking.run("train@small", {"stage": "train"}) as run:
        run.params({"train": {"lr": 0.1, "phases": [1, 2]}})
        run.metrics({"loss": 3.0}, step=1)
        run.metrics({"loss": 2.0}, step=2)
    (found,) = mlflow.search_runs(experiment_names=[tracking.EXPERIMENT], output_format="list")
    assert found.info.run_name == "train@small" and found.info.status == "FINISHED"
    assert found.data.params == {"train.lr": "0.1", "train.phases": "[1, 2]"}
    assert found.data.tags["git_commit"] == tracking.commit()
    history = mlflow.MlflowClient().get_metric_history(found.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0)]


def test_a_run_that_fails_is_marked_and_the_fault_goes_on():
    with pytest.raises(KeyError), tracking.run("train@small", {}):
        raise KeyError
    (found,) = mlflow.search_runs(experiment_names=[tracking.EXPERIMENT], output_format="list")
    assert found.info.status == "FAILED"


def test_work_goes_on_when_tracking_fails(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    done = []
    with tracking.run("train@small", {}) as run:
        run.metrics({"loss": 1.0})
        done.append(True)
    assert done and capsys.readouterr().err.count("not tracked") == 1


def test_nested_names_are_dotted():
    assert tracking.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
