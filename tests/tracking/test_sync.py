"""Copies to real MLflow servers, behind a proxy that makes them refuse, fail and ask for passwords."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import flask
import pytest
import requests
from mlflow import MlflowClient

from mri.base.errors import UserError
from mri.tracking import registry, store, sync
from mri.tracking.run import track
from tests.conftest import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`mlflow server` on loopback, whose database outlives it."""

    def __init__(self, folder: Path, empty_store: Path):
        self.folder, self.port = folder, free_port()
        shutil.copy(empty_store, folder / "server.db")
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        database, files = f"sqlite:///{self.folder / 'server.db'}", str(self.folder / "files")
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", database, "--artifacts-destination", files]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        wait_for(f"{self.uri}/health")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_for(address: str, seconds: int = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            requests.get(address, timeout=5)
            return
        except requests.ConnectionError:
            assert time.monotonic() < deadline, address
        time.sleep(0.2)


class Gate:
    """A proxy in front of a server; requests for which `refuse` returns (text, status) are answered with that."""

    def __init__(self, server: Server, prefix: str = ""):
        self.server, self.port = server, free_port()
        self.uri = f"http://127.0.0.1:{self.port}{prefix}"
        self.refuse = lambda request: None
        self.after = lambda request: None  # called between the server's answer and the client's
        app = flask.Flask("gate")
        app.add_url_rule(f"{prefix}/<path:path>", "pass", self._pass, methods=["GET", "POST", "PATCH", "PUT", "DELETE"])
        threading.Thread(target=app.run, args=("127.0.0.1", self.port), kwargs={"threaded": True}, daemon=True).start()
        wait_for(self.uri)

    def _pass(self, path: str):
        request = flask.request
        if refused := self.refuse(request):
            return refused
        answer = requests.request(
            request.method,
            f"{self.server.uri}/{path}",
            params=request.args,
            data=request.get_data(),
            headers={"Content-Type": request.content_type or ""},
            timeout=30,
        )
        self.after(request)
        return answer.content, answer.status_code


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    server = Server(tmp_path_factory.mktemp("server"), empty_store)
    yield server
    server.kill()


@pytest.fixture
def gate(server) -> Gate:
    return Gate(server)


def local() -> tuple[MlflowClient, str]:
    return store.connect(store.local_uri())


def sync_to(uri: str) -> tuple[int, list[str]]:
    return sync.sync(uri, *local())


def copies(uri: str) -> dict:
    """Return the copies of this test's runs by name; check that there is one of each."""
    (original, experiment), (client, target) = local(), store.connect(uri)
    local_ids = {run.info.run_id for run in original.search_runs([experiment])}
    runs = [run for run in client.search_runs([target]) if run.data.tags[sync.COPY_OF] in local_ids]
    copies = {run.info.run_name: run for run in runs}
    assert len(copies) == len(runs)
    return copies


def history(uri: str, run, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, metric)]


def tracked_training(name: str = "small") -> None:
    Path("plot.csv").write_text("a\n1\n")
    with track(f"train@{name}", {}) as run:
        run.params({"lr": 0.1})
        run.metrics({"loss": 2.0}, step=1)
        run.metrics({"loss": 1.0}, step=2)
        run.file(Path("plot.csv"), "plots")


def save_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "MLmodel").write_text("{}")


def command(**environment: str) -> subprocess.CompletedProcess:
    settings = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    arguments = [sys.executable, "-m", "mri.tracking.sync"]
    return subprocess.run(arguments, env=settings, capture_output=True, text=True, check=False)


def killed_training() -> None:
    """Run a stage that is killed before it can report its end."""
    program = (
        "import os, signal; from mri.tracking.run import track\n"
        "with track('train@killed', {}) as run: run.metrics({'loss': 3.0}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)


def test_the_pipelines_run_gets_the_lock_that_dvc_wrote_after_the_last_stage(tmp_path):
    (tmp_path / "dvc.lock").write_text("before")
    with track("train@small", {}), track("report", {}):
        pass
    (tmp_path / "dvc.lock").write_text("stages: {}")
    sync.attach_lock(*local())
    (tmp_path / "params.yaml").write_text("seed: 1")  # of another pipeline run, which isn't tracked
    (tmp_path / "dvc.lock").write_text("another")
    sync.attach_lock(*local())
    client, experiment = local()
    run = store.find_run(client, experiment, kind="pipeline")
    assert run.data.tags["dvc_lock"] == "6a3837158560"  # of the SHA-256 of "stages: {}"
    assert run.info.status == "FINISHED"
    assert Path(client.download_artifacts(run.info.run_id, "dvc.lock")).read_text() == "stages: {}"
    assert "dvc_lock" not in store.find_run(client, experiment, kind="architecture").data.tags


def test_make_repro_syncs_after_the_pipeline_and_a_failure_of_it_is_not_its_own(root):
    recipe = (root / "Makefile").read_text().split("\nrepro: ")[1].split("\n\n")[0].splitlines()
    (pipeline,) = [i for i, line in enumerate(recipe) if line == "\tdvc repro"]
    (sync,) = [i for i, line in enumerate(recipe) if "python -m mri.tracking.sync" in line]
    assert pipeline < sync and recipe[sync].startswith("\t-")


@pytest.mark.parametrize("setting", ["", "sqlite:///mlflow.db"])
def test_without_a_server_the_runs_stay_where_they_are(monkeypatch, capsys, setting):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", setting)
    monkeypatch.setattr(sys, "argv", ["sync"])
    tracked_training()
    sync.main()
    assert capsys.readouterr().out.startswith("runs stay in mlflow.db")


@pytest.mark.slow
def test_a_server_that_is_away_or_hangs_is_one_line_within_seconds():
    tracked_training()
    with socket.socket() as listener:  # takes connections and never answers
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for port in (9, listener.getsockname()[1]):
            uri, started = f"http://127.0.0.1:{port}", time.monotonic()
            done = command(MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_TIMEOUT="2")
            assert done.returncode == 2 and time.monotonic() - started < 60
            assert done.stderr.startswith(f"error: {uri} can't be used") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_copy_has_what_the_run_has_and_syncing_again_copies_only_what_is_new(server):
    tracked_training()
    with track("package@small", {}) as run:
        run.model(save_model, registry.NAME, registry.ALIAS)
    with track("select", {"winner": "small"}) as run:
        run.metrics({"test/accuracy": 0.5})
    assert sync_to(server.uri) == (2, [])
    assert sync_to(server.uri) == (0, [])
    with track("evaluate@small", {}) as run:
        run.metrics({"test/accuracy": 0.5})
    assert sync_to(server.uri) == (2, [])  # the pipeline's run ended again as well
    small, pipeline = copies(server.uri)["small"], copies(server.uri)["pipeline"]
    original = store.find_run(*local(), architecture="small")
    assert small.data.params == original.data.params and small.data.metrics == original.data.metrics
    assert history(server.uri, small, "loss") == [(1, 2.0), (2, 1.0)]
    assert (small.info.start_time, small.info.end_time) == (original.info.start_time, original.info.end_time)
    assert small.info.status == "FINISHED" and small.data.tags["mlflow.parentRunId"] == pipeline.info.run_id
    assert {**small.data.tags, **original.data.tags, "mlflow.parentRunId": pipeline.info.run_id} == small.data.tags
    assert pipeline.data.tags["winner"] == "small" and pipeline.data.metrics == {"test/accuracy": 0.5}
    client = MlflowClient(server.uri)
    assert {item.path for item in client.list_artifacts(small.info.run_id)} == {"environment", "model", "plots"}
    champion = client.get_model_version_by_alias(registry.NAME, registry.ALIAS)
    assert (champion.run_id, champion.version) == (small.info.run_id, "1")


@pytest.mark.slow
def test_a_stage_that_was_killed_is_copied_as_far_as_it_came(server):
    killed_training()
    for _ in range(2):
        assert sync_to(server.uri) == (2, [])
    run = copies(server.uri)["killed"]
    assert run.info.status == "RUNNING" and history(server.uri, run, "loss") == [(0, 3.0)]
    with track("train@killed", {}):
        pass
    assert sync_to(server.uri) == (2, []) and copies(server.uri)["killed"].info.status == "FINISHED"


@pytest.mark.slow
def test_a_run_that_the_server_refuses_does_not_hold_up_the_next(gate):
    tracked_training("bad")
    tracked_training("good")
    gate.refuse = lambda request: ("no, thanks", 400) if b'"bad"' in request.get_data() else None
    copied, (line,) = sync_to(gate.uri)
    assert copied == 2 and "doesn't take run bad (" in line and "no, thanks" in line
    assert set(copies(gate.uri)) == {"pipeline", "good"}
    gate.refuse = lambda request: None
    assert sync_to(gate.uri) == (1, []) and set(copies(gate.uri)) == {"pipeline", "good", "bad"}


@pytest.mark.slow
@pytest.mark.parametrize("last", ["runs/create", "runs/log-batch"])
def test_a_server_that_dies_before_it_answers_has_every_run_and_number_once_in_the_end(tmp_path, empty_store, last):
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server", empty_store)
    gate = Gate(server)
    tracked_training("first")
    tracked_training("second")
    gate.after = lambda request: server.kill() if request.path.endswith(last) else None
    copied, (line,) = sync_to(gate.uri)
    assert copied <= 1 and "stopped answering" in line
    gate.after = lambda request: None
    server.start()
    assert sync_to(gate.uri)[1] == [] and sync_to(gate.uri) == (0, [])
    assert set(copies(gate.uri)) == {"pipeline", "first", "second"}
    for name in ("first", "second"):
        run = copies(gate.uri)[name]
        assert history(gate.uri, run, "loss") == [(1, 2.0), (2, 1.0)] and run.info.status == "FINISHED"
    server.kill()


@pytest.mark.slow
def test_a_dagshub_repository_is_a_server_with_a_password(server, monkeypatch):
    gate = Gate(server, "/someone/tumours.mlflow")
    gate.refuse = lambda request: (
        None if request.authorization and request.authorization.password == "letmein" else ("", 403)
    )
    monkeypatch.setenv("DAGSHUB_REPO", "someone/tumours")
    monkeypatch.setenv("DAGSHUB_CLIENT_HOST", f"http://127.0.0.1:{gate.port}")
    tracked_training()
    refused = command(DAGSHUB_USER_TOKEN="wrong")
    assert refused.returncode == 2
    assert refused.stderr == f"error: {gate.uri} refuses the token in $DAGSHUB_USER_TOKEN\n"
    accepted = command(DAGSHUB_USER_TOKEN="letmein")
    assert (accepted.returncode, accepted.stdout) == (0, f"copied 2 runs to {gate.uri}\n")
    assert set(copies(server.uri)) == {"pipeline", "small"}


@pytest.mark.slow
def test_a_refused_token_of_another_server_names_mlflows_variable(gate, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gate.uri)
    gate.refuse = lambda request: ("who are you?", 401)
    with pytest.raises(UserError, match=r"refuses the token in \$MLFLOW_TRACKING_TOKEN"):
        sync_to(gate.uri)


def refusing_registry(status: int):
    def refuse(request):
        wanted = "registered-models" in request.path or "model-versions" in request.path
        return ("not today", status) if wanted else None

    return refuse


@pytest.mark.slow
def test_a_winner_is_registered_once_the_registry_is_back(gate):
    with track("package@small", {}) as run:
        run.model(save_model, registry.NAME, registry.ALIAS)
    gate.refuse = refusing_registry(503)
    copied, (line,) = sync_to(gate.uri)
    assert copied == 1 and "doesn't take run small" in line
    gate.refuse = lambda request: None
    assert sync_to(gate.uri) == (1, [])
    champion = MlflowClient(gate.uri).get_model_version_by_alias(registry.NAME, registry.ALIAS)
    assert champion.run_id == copies(gate.uri)["small"].info.run_id


@pytest.mark.slow
@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_a_registry_gets_the_rest_of_the_run(gate, capsys, status):
    with track("package@small", {}) as run:
        run.model(save_model, registry.NAME, registry.ALIAS)
    gate.refuse = refusing_registry(status)
    assert sync_to(gate.uri) == (2, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the server has no model registry")


@pytest.mark.slow
def test_mlflows_page_finds_the_experiment(server):
    """The page asks for an experiment in GraphQL, which a mismatch of packages that pip accepts can break."""
    _, experiment = store.connect(server.uri)
    query = "query Q($input: MlflowGetExperimentInput!) {mlflowGetExperiment(input: $input) {experiment {name}}}"
    body = {"operationName": "Q", "query": query, "variables": {"input": {"experimentId": experiment}}}
    answer = requests.post(f"{server.uri}/graphql", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["mlflowGetExperiment"]["experiment"]["name"] == store.EXPERIMENT
