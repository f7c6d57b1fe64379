import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from mri.base.errors import UserError
from mri.tracking import delivery, journal, lockfile
from mri.tracking import run as tracking
from mri.tracking.run import track
from mri.tracking.sync import Outcome, sync
from tests.conftest import file_size_limit

DELIVERED = {"train/loss": 2.0}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory) -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch, empty_store):
    for name in ("DVC_EXP_NAME", "DVC_STAGE", "DAGSHUB_REPO", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)


def runs(**tags: str) -> list:
    """The runs with these tags."""
    client = MlflowClient(delivery.tracking_uri())
    experiment = client.get_experiment_by_name(delivery.EXPERIMENT).experiment_id
    found = client.search_runs([experiment])
    return [run for run in found if tags.items() <= run.data.tags.items()]


def history(run, metric: str) -> list[tuple[int, float]]:
    points = MlflowClient(delivery.tracking_uri()).get_metric_history(run.info.run_id, metric)
    return [(point.step, point.value) for point in points]


def test_a_run_keeps_parameters_metrics_per_epoch_and_the_commit():
    with track("train@small", {"data": "made"}) as run:
        run.params({"train": {"lr": 0.1, "phases": [1, 2]}})
        run.metrics({"train": {"loss": 3.0, "precision": "fp32"}}, step=1)
        run.metrics({"train": {"loss": 2.0}}, step=2)
    (found,) = runs(kind="architecture")
    assert found.info.run_name == "small" and found.info.status == "FINISHED"
    assert found.data.params == {"train.lr": "0.1", "train.phases": "[1, 2]"}
    assert found.data.tags["data"] == "made" and found.data.tags["stage"] == "train"
    assert found.data.tags.get("git_commit", "") == tracking.commit()
    assert history(found, "train/loss") == [(1, 3.0), (2, 2.0)]
    assert journal.waiting() == []


def test_a_run_knows_the_machine_the_packages_and_the_state_of_the_repository(tmp_path):
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "artifacts/splits").mkdir(parents=True)
    (tmp_path / "artifacts/splits/index.csv").write_text("id\n")
    subprocess.run("git init -q && git add code.py && git -c user.name=a -c user.email=a@b commit -qm a", shell=True)
    with track("train@small", {}):
        pass
    (found,) = runs(kind="architecture")
    assert found.data.tags["data_version"] == "984a644ec3b5"  # of the SHA-256 of the text above
    assert found.data.tags["mlflow.source.git.commit"] == tracking.commit() != ""
    where = MlflowClient(delivery.tracking_uri()).download_artifacts(found.info.run_id, "environment/train.json")
    environment = json.loads(Path(where).read_text())
    assert environment["python"] == sys.version.split()[0] and environment["cores"] >= 1
    assert environment["packages"]["mlflow"] and environment["packages"]["torch"]


def test_the_run_of_the_pipeline_gets_the_lock_that_dvc_wrote_after_the_last_stage(tmp_path):
    (tmp_path / "dvc.lock").write_text("before")
    with track("train@small", {}), track("report", {}):
        pass
    (tmp_path / "dvc.lock").write_text("stages: {}")
    lockfile.track_lock()
    (parent,) = runs(kind="pipeline")
    (child,) = runs(kind="architecture")
    assert parent.data.tags["dvc_lock"] == "6a3837158560"  # of the SHA-256 of the text above
    assert "dvc_lock" not in child.data.tags and parent.info.status == "FINISHED"
    where = MlflowClient(delivery.tracking_uri()).download_artifacts(parent.info.run_id, "dvc.lock")
    assert Path(where).read_text() == "stages: {}"


@pytest.mark.parametrize("change", ["nothing ran", "other parameters"])
def test_a_lock_is_not_tracked_with_a_run_that_did_not_make_it(tmp_path, change):
    (tmp_path / "dvc.lock").write_text("stages: {}")
    with track("report", {}):
        pass
    if change == "nothing ran":
        lockfile.track_lock()
        (tmp_path / "dvc.lock").write_text("another commit's")
    else:
        (tmp_path / "params.yaml").write_text("seed: 1")
    lockfile.track_lock()
    (parent,) = runs(kind="pipeline")
    assert parent.data.tags.get("dvc_lock") == ("6a3837158560" if change == "nothing ran" else None)


def test_a_lock_whose_server_is_away_fails_nothing_and_is_sent_later(tmp_path, monkeypatch, capsys):
    (tmp_path / "dvc.lock").write_text("stages: {}")
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with track("report", {}):
            pass
        lockfile.track_lock()
    assert capsys.readouterr().err.count("kept in .mlflow-journal for `make sync`") == 2
    assert sync() == Outcome(sent=2)
    assert runs(kind="pipeline")[0].data.tags["dvc_lock"] == "6a3837158560"


def test_make_repro_tracks_the_lock_after_the_last_stage(root):
    command = ["make", "-n", "--no-print-directory", "repro"]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-2:] == ["dvc repro", "python -m mri.tracking.lockfile"]


def test_what_the_pipeline_writes_does_not_make_a_commit_another(tmp_path):
    (tmp_path / "metrics").mkdir()
    for name in ("metrics/details/summary.json", "dvc.lock", "code.py"):
        (tmp_path / name).write_text("1")
    subprocess.run("git init -q && git add . && git -c user.name=a -c user.email=a@b commit -qm a", shell=True)
    (tmp_path / "metrics/details/summary.json").write_text("2")
    (tmp_path / "dvc.lock").write_text("2")
    assert not tracking.commit().endswith("+")
    (tmp_path / "code.py").write_text("2")
    assert tracking.commit().endswith("+")


def test_stages_of_one_network_share_a_run_below_the_run_of_the_pipeline(monkeypatch):
    for stage in ("train", "evaluate"):
        with track(f"{stage}@small", {}) as run:
            run.metrics({stage: 1.0})
    with track("train@large", {}), track("select", {}) as run:
        run.metrics({"winner": 0.5})
    (parent,) = runs(kind="pipeline")
    (small,) = runs(architecture="small")
    assert small.data.metrics == {"train": 1.0, "evaluate": 1.0} and parent.data.metrics == {"winner": 0.5}
    children = runs(**{"mlflow.parentRunId": parent.info.run_id})
    assert {run.info.run_name for run in children} == {"small", "large"}
    assert {run.info.status for run in runs()} == {"FINISHED"}


@pytest.mark.parametrize("change", ["parameters", "experiment", "commit"])
def test_another_pipeline_run_gets_runs_of_its_own(tmp_path, monkeypatch, change):
    commit = "git -c user.name=a -c user.email=a@b commit --allow-empty -qm a"
    subprocess.run(f"git init -q && {commit}", shell=True)
    with track("train@small", {}):
        pass
    if change == "parameters":
        (tmp_path / "params.yaml").write_text("seed: 1")
    elif change == "experiment":
        monkeypatch.setenv("DVC_EXP_NAME", "bold-idea")
    else:
        subprocess.run(f"{commit} --date 2001-01-01T00:00", shell=True)
    with track("train@small", {}):
        pass
    assert len({run.data.tags["pipeline"] for run in runs()}) == len(runs(kind="pipeline")) == 2


def test_a_teacher_is_not_the_network_of_the_same_name(monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "teacher")
    with track("train@small", {}):
        pass
    (found,) = runs(architecture="small")
    assert (found.info.run_name, found.data.tags["kind"]) == ("teacher small", "teacher")


@pytest.mark.parametrize(("fault", "status"), [(KeyError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_fails_is_marked_and_the_fault_goes_on(fault, status):
    with pytest.raises(fault), track("train@small", {}):
        raise fault
    assert {run.info.status for run in runs()} == {status}


def test_files_are_tracked_as_they_were(tmp_path):
    with track("select", {}) as run:
        (tmp_path / "table.csv").write_text("a\n1\n")
        run.file(tmp_path / "table.csv", "plots")
        (tmp_path / "table.csv").write_text("a\n2\n")
        run.file(tmp_path / "nothing.csv")
    (found,) = runs()
    assert found.info.artifact_uri.startswith((tmp_path / "mlruns").as_uri())
    where = MlflowClient(delivery.tracking_uri()).download_artifacts(found.info.run_id, "plots/table.csv")
    assert Path(where).read_text() == "a\n1\n"


def test_processes_that_start_together_on_an_empty_store_make_one_parent():
    Path("mlflow.db").unlink()
    program = (
        "import sys; from mri.tracking.run import track\nwith track(f'train@{sys.argv[1]}', {}) as run: run.metrics({})"
    )
    path = {"PYTHONPATH": str(Path(delivery.__file__).parents[1])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, name], env=os.environ | path, stderr=subprocess.PIPE, text=True
        )
        for name in ("small", "large", "large")
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0)] * 3
    assert len(runs(kind="pipeline")) == 1
    assert sorted(run.info.run_name for run in runs(kind="architecture")) == ["large", "small"]


def test_work_goes_on_when_the_store_cannot_be_opened(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    good = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    done = []
    with track("train@small", {}) as run:
        run.metrics({"loss": 1.0})
        done.append(True)
    assert done and capsys.readouterr().err.count("not tracked") == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", good)
    assert sync() == Outcome(sent=1)
    assert runs(kind="architecture")[0].data.metrics == {"loss": 1.0}


def test_work_goes_on_when_the_disk_is_full(capsys):
    done = []
    with track("train@small", {}) as run, file_size_limit(1):
        run.metrics({"loss": 1.0})
        done.append(True)
    assert done and capsys.readouterr().err.count("not tracked") == 1


def test_a_run_that_begins_when_the_disk_is_full_leaves_nothing_that_cannot_be_sent(capsys):
    context = track("train@small", {})
    with file_size_limit(1):
        run = context.__enter__()
    run.metrics({"loss": 1.0})
    context.__exit__(None, None, None)
    assert sync() == Outcome()
    assert capsys.readouterr().err.count("not tracked") == 1


def test_an_event_that_a_full_disk_cuts_does_not_spoil_the_next():
    kept = journal.begin("train@small")
    kept.append({"metrics": {"loss": 1.0}})
    with file_size_limit((kept.folder / journal.EVENTS).stat().st_size + 5), pytest.raises(OSError, match="too large"):
        kept.append({"metrics": {"loss": 2.0}})
    kept.append({"metrics": {"loss": 3.0}})
    assert (kept.events(), kept.unreadable) == ([{"metrics": {"loss": 1.0}}, {"metrics": {"loss": 3.0}}], 0)


def kept_of(monkeypatch, name: str, metric: str) -> Path:
    """Track a metric of a run while nobody listens; returns the events that are kept."""
    before = set(journal.home().glob(f"*/{journal.EVENTS}"))
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with track(name, {}) as run:
            run.metrics({metric: 1.0})
    (events,) = set(journal.home().glob(f"*/{journal.EVENTS}")) - before
    return events


def sync_command() -> subprocess.CompletedProcess:
    path = {"PYTHONPATH": str(Path(delivery.__file__).parents[1])}
    command = [sys.executable, "-m", "mri.tracking.sync"]
    return subprocess.run(command, env=os.environ | path, capture_output=True, text=True, check=False)


def test_a_journal_that_the_server_refuses_does_not_hold_up_the_next(monkeypatch):
    refused = kept_of(monkeypatch, "train@small", "no?name").parent.name
    kept_of(monkeypatch, "train@large", "loss")
    done = sync_command()
    assert (done.returncode, done.stdout) == (2, f"sent 1 journals to {delivery.tracking_uri()}\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {delivery.tracking_uri()} doesn't take {refused}, which is kept: delete .mlflow-")
    assert "no?name" in line and "can't be reached" not in line
    assert runs(architecture="large")[0].data.metrics == {"loss": 1.0}
    assert [path.name for path in journal.home().glob("*/")] == [refused]


def test_unreadable_lines_of_a_journal_are_counted_and_the_rest_is_sent(monkeypatch):
    damaged = kept_of(monkeypatch, "train@small", "loss")
    head, rest = damaged.read_bytes().split(b"\n", 1)
    damaged.write_bytes(head + b'\n{"metrics": {"lo{"metrics": {}}\n\xff\0\n' + rest)
    done = sync_command()
    assert (done.returncode, done.stdout) == (0, f"sent 1 journals to {delivery.tracking_uri()}\n")
    assert done.stderr == f"warning: {damaged.parent.name}: 2 of its events were unreadable and are not tracked\n"
    assert runs(architecture="small")[0].data.metrics == {"loss": 1.0}


def test_a_journal_that_does_not_say_whose_it_is_is_kept_and_said_in_a_line(monkeypatch):
    damaged = kept_of(monkeypatch, "train@small", "loss")
    damaged.write_bytes(damaged.read_bytes()[1:])
    (line,) = sync().left
    assert "its first line is unreadable, and nothing else says whose run it is" in line
    assert damaged.is_file()


def test_a_line_that_its_writer_did_not_finish_is_no_event():
    kept = journal.begin("train@small")
    kept.append({"metrics": {"loss": 1.0}})
    with (kept.folder / journal.EVENTS).open("a") as file:
        file.write('{"metrics": {"lo')
    assert kept.events() == [{"metrics": {"loss": 1.0}}]


def test_a_journal_that_is_being_written_is_left_to_its_writer():
    with track("train@small", {}):
        assert journal.waiting() == []


def test_another_value_of_a_parameter_is_refused_in_a_line(capsys):
    for rate in (0.1, 0.2):
        with track("train@small", {}) as run:
            run.params({"lr": rate})
            run.metrics({"loss": rate})
    (found,) = runs(kind="architecture")
    assert found.data.params == {"lr": "0.1"} and found.data.metrics == {"loss": 0.2}
    assert capsys.readouterr().err.count("the run has other parameters already") == 1


def test_nested_names_are_dotted():
    assert tracking.flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_dagshub_needs_its_repository_and_token_only(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("DAGSHUB_REPO", "someone/tumours")
    monkeypatch.setenv("DAGSHUB_USER_TOKEN", "t" * 8)
    assert delivery.tracking_uri() == "https://dagshub.com/someone/tumours.mlflow"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("someone", "t" * 8)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name)


@pytest.mark.parametrize("repository", ["tumours", "/tumours", "a/b/c"])
def test_a_dagshub_repository_without_owner_is_refused(monkeypatch, repository):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("DAGSHUB_REPO", repository)
    with pytest.raises(UserError, match="DAGSHUB_REPO must be owner/name"):
        delivery.tracking_uri()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(folder: Path, port: int, prefix: str = ""):
    """`mlflow server` on loopback, with its database in `folder`."""
    folder.mkdir(exist_ok=True)
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    command += ["--static-prefix", prefix] if prefix else []
    own = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(lambda: requests.get(f"http://127.0.0.1:{port}{prefix}/health", timeout=5).ok)
        yield f"http://127.0.0.1:{port}{prefix}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(answers, seconds: int = 120):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if answers():
                return
        except requests.ConnectionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.3)


@pytest.mark.slow
def test_mlflows_page_finds_the_experiment(tmp_path):
    """The page asks for an experiment in GraphQL, which a mismatch of packages that pip accepts can break."""
    with track("train@small", {}):
        pass
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "server.db")
    with server(tmp_path, free_port()) as address:
        asked = "query Q($input: MlflowGetExperimentInput!) {mlflowGetExperiment(input: $input) {experiment {name}}}"
        body = {"operationName": "Q", "query": asked, "variables": {"input": {"experimentId": "1"}}}
        answer = requests.post(f"{address}/graphql", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["mlflowGetExperiment"]["experiment"]["name"] == delivery.EXPERIMENT


@pytest.mark.slow
def test_a_server_that_dies_mid_run_and_comes_back_has_every_number_once(tmp_path, monkeypatch, capsys):
    port, store = free_port(), tmp_path / "server"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    (tmp_path / "plot.csv").write_text("a\n1\n")
    with server(store, port):
        context = track("train@small", {})
        run = context.__enter__()
        run.metrics({"train": {"loss": 3.0}}, step=1)
        assert history(runs(kind="architecture")[0], "train/loss") == [(1, 3.0)]
    started = time.monotonic()
    run.metrics({"train": {"loss": 2.0}}, step=2)
    run.metrics({"train": {"loss": 1.0}}, step=3)
    run.file(tmp_path / "plot.csv", "plots")
    context.__exit__(None, None, None)
    assert time.monotonic() - started < 30
    assert capsys.readouterr().err.count("kept in .mlflow-journal for `make sync`") == 1
    (line,) = sync().left
    assert line.startswith(f"http://127.0.0.1:{port} can't be reached, everything unsent is kept (")
    (kept,) = sorted(journal.home().glob("*/"))
    events = (kept / journal.EVENTS).read_bytes()
    with server(store, port):
        assert (sync(), sync()) == (Outcome(sent=1), Outcome(sent=0))
        kept.mkdir()
        (kept / journal.EVENTS).write_bytes(b"\n".join(line for line in events.split(b"\n") if b'"file"' not in line))
        assert sync() == Outcome(sent=1)  # all of it again
        (found,) = runs(kind="architecture")
        assert history(found, "train/loss") == [(1, 3.0), (2, 2.0), (3, 1.0)]
        assert found.info.status == "FINISHED"
        client = MlflowClient(delivery.tracking_uri())
        assert [item.path for item in client.list_artifacts(found.info.run_id, "plots")] == ["plots/plot.csv"]


@pytest.mark.slow
def test_a_server_that_swallows_everything_costs_seconds(monkeypatch, capsys):
    with socket.socket() as listener:  # takes connections and never answers
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        started = time.monotonic()
        with track("train@small", {}) as run:
            for step in range(20):
                run.metrics({"loss": 1.0}, step=step)
    assert time.monotonic() - started < 40
    assert capsys.readouterr().err.count("not tracked yet") == 1


@pytest.mark.slow
def test_a_dagshub_repository_is_an_mlflow_server_with_a_password(tmp_path, monkeypatch):
    port, seen = free_port(), set()
    with server(tmp_path / "server", free_port(), "/someone/tumours.mlflow") as behind:
        threading.Thread(
            target=serve_with_password, args=(port, behind.split("/someone")[0], seen), daemon=True
        ).start()
        wait_until(lambda: requests.get(f"http://127.0.0.1:{port}/", timeout=5).status_code == 401)
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        monkeypatch.setenv("DAGSHUB_REPO", "someone/tumours")
        monkeypatch.setenv("DAGSHUB_CLIENT_HOST", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("DAGSHUB_USER_TOKEN", "letmein" * 2)
        with track("train@small", {}) as run:
            run.metrics({"loss": 1.0})
        assert runs(kind="architecture")[0].data.metrics == {"loss": 1.0}
    assert seen == {("someone", "letmein" * 2)}


def serve_with_password(port: int, behind: str, seen: set) -> None:
    """Pass requests with a password on to the server behind, and refuse the others."""

    def refuse(asked):
        if asked.authorization is None:
            return "who are you?", 401
        seen.add((asked.authorization.username, asked.authorization.password))
        return None

    serve_in_front(port, behind, refuse)


def serve_in_front(port: int, behind: str, refuse) -> None:
    """Pass requests on to the server behind, but for those to which `refuse` has an answer (text, status)."""
    import flask

    app = flask.Flask("gate")

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST", "PATCH", "PUT", "DELETE"])
    @app.route("/<path:path>", methods=["GET", "POST", "PATCH", "PUT", "DELETE"])
    def passed(path: str):
        asked = flask.request
        if refused := refuse(asked):
            return refused
        answer = requests.request(
            asked.method,
            f"{behind}/{path}",
            params=asked.args,
            data=asked.get_data(),
            headers={"Content-Type": asked.content_type or ""},
            timeout=30,
        )
        return answer.content, answer.status_code

    app.run("127.0.0.1", port, threaded=True)


def save_nothing(folder: Path) -> None:
    folder.mkdir()
    (folder / "MLmodel").write_text("{}")


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A tracking server and the status (0: its own) that its model registry answers with, in a list of one."""
    port, status = free_port(), [0]

    def refuse(asked):
        wanted = "registered-models" in asked.path or "model-versions" in asked.path
        return ("not today", status[0]) if wanted and status[0] else None

    with server(tmp_path / "server", free_port()) as behind:
        threading.Thread(target=serve_in_front, args=(port, behind, refuse), daemon=True).start()
        wait_until(lambda: requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        yield status


@pytest.mark.slow
def test_a_winner_is_registered_once_the_registry_is_back(registry):
    for status in (503, 500):
        with track("select", {}) as run:
            registry[0] = status
            run.model(save_nothing, f"tumours-{status}", "champion")
            registry[0] = 0  # back before the stage ends
        client = MlflowClient(delivery.tracking_uri())
        assert client.get_model_version_by_alias(f"tumours-{status}", "champion").version == "1"
    with track("select", {}) as run:
        registry[0] = 503
        run.model(save_nothing, "tumours", "champion")
    assert len(journal.waiting()) == 1  # still away when the stage ended
    registry[0] = 0
    assert sync() == Outcome(sent=1)
    assert client.get_model_version_by_alias("tumours", "champion").version == "1"


@pytest.mark.slow
def test_a_server_without_a_registry_gets_the_rest_of_the_run(registry, capsys):
    for status in (404, 405, 501):
        registry[0] = status
        with track("select", {}) as run:
            run.model(save_nothing, "tumours", "champion")
            run.metrics({f"after {status}": 1.0})
        assert capsys.readouterr().err.count("the winner is not registered") == 1
    assert journal.waiting() == []
    (found,) = runs(kind="pipeline")
    assert set(found.data.metrics) == {"after 404", "after 405", "after 501"}
