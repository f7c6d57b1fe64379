"""Data and models on an S3 remote: a real server on loopback, DVC's own commands, clones of a small repository."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.workspace import ROOT, commit, environment, run

pytestmark = pytest.mark.slow
SECRET = {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_DEFAULT_REGION": "us-east-1"}
FILES = 60
PULL = re.search(r"^dvc push .*with: (dvc pull.*)$", (ROOT / "docs/tracking.md").read_text(), re.MULTILINE)[1].split()

# Two stages, the second of which packages what the first made; the artifact has the name and path of the real one.
PIPELINE = f"""
stages:
  train:
    cmd: python make.py artifacts/models {FILES}
    deps: [make.py]
    outs: [artifacts/models]
  package:
    cmd: python make.py artifacts/service 2 && cp metrics.in metrics.json
    deps: [artifacts/models, make.py]
    outs: [artifacts/service]
    metrics: [metrics.json: {{cache: false}}]
artifacts:
"""
MAKE = """
import hashlib, sys
from pathlib import Path
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for number in range(int(sys.argv[2])):
    seed = hashlib.sha256(f"{folder}{number}".encode()).digest()
    (folder / f"{number}.bin").write_bytes(seed * 8000)
"""


@pytest.fixture(scope="module")
def server():
    """An S3 server without any bucket; its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(server, request):
    """A new bucket: client and name."""
    client = boto3.client("s3", endpoint_url=server)
    name = f"b{abs(hash(request.node.name))}"
    client.create_bucket(Bucket=name)
    return client, name


@pytest.fixture
def repository(tmp_path, server, bucket):
    """A repository whose pipeline has run, with the remote of docs/tracking.md, and scans that are not pushed."""
    folder = tmp_path / "origin"
    folder.mkdir()
    declared = (ROOT / "dvc.yaml").read_text().split("\nartifacts:\n")[1].split("\n\n")[0]
    (folder / "dvc.yaml").write_text(f"{PIPELINE}{declared}\n")
    (folder / "make.py").write_text(MAKE)
    (folder / "metrics.in").write_text('{"score": 0.9}\n')
    (folder / ".gitignore").write_text("/artifacts/\n/data\n")
    shutil.copy(ROOT / "data.dvc", folder)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "remote", "add", "-d", "origin", f"s3://{bucket[1]}")
    run(folder, "dvc", "remote", "modify", "origin", "endpointurl", server)
    run(folder, "dvc", "repro")
    commit(folder)
    return folder


def clone(origin: Path, target: Path) -> Path:
    run(origin.parent, "git", "clone", "-q", str(origin), str(target))
    return target


def stored(bucket) -> list[str]:
    """Return the names of DVC's files in the bucket."""
    client, name = bucket
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
    return [item["Key"] for page in pages for item in page.get("Contents", []) if "/files/" in f"/{item['Key']}"]


def test_a_clone_that_pulls_has_nothing_left_to_run(repository, bucket, tmp_path):
    run(repository, "dvc", "push")
    assert len(stored(bucket)) == FILES + 2 + 2  # two folders are lists of their own
    other = clone(repository, tmp_path / "clone")
    assert not (other / "artifacts").exists()
    run(other, *PULL)
    assert sorted(path.name for path in (other / "artifacts/service").iterdir()) == ["0.bin", "1.bin"]
    assert "Data and pipelines are up to date" in run(other, "dvc", "repro").stdout
    assert run(other, "git", "status", "--porcelain").stdout == ""


def test_an_interrupted_push_is_resumed(repository, bucket, tmp_path):
    command = [str(Path(sys.executable).parent / "dvc"), "push", "--jobs", "1"]
    process = subprocess.Popen(
        command, cwd=repository, env=environment(repository) | SECRET, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 60
    while not len(stored(bucket)) >= 3:
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    begun = len(stored(bucket))
    assert 3 <= begun < FILES
    early = run(clone(repository, tmp_path / "early"), *PULL, check=False)
    assert early.returncode != 0 and "Traceback" not in early.stderr
    pushed = run(repository, "dvc", "push").stdout
    assert len(stored(bucket)) == FILES + 2 + 2
    assert "pushed" in pushed
    other = clone(repository, tmp_path / "clone")
    run(other, *PULL)
    assert "Data and pipelines are up to date" in run(other, "dvc", "repro").stdout
    assert "Everything is up to date" in run(repository, "dvc", "push").stdout


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_registered_winner_is_fetched_by_its_name(repository, tmp_path, form):
    run(repository, "dvc", "push")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    get = ("dvc", "artifacts", "get", form.format(repository), "brain-tumour-classifier", "--out", "service")
    unknown = run(elsewhere, *get, check=False)
    assert unknown.returncode == 1 and "Unable to find artifact 'brain-tumour-classifier'" in unknown.stderr
    run(repository, "git", "config", "user.name", "test")
    run(repository, "git", "config", "user.email", "test@example.org")
    run(repository, "gto", "register", "brain-tumour-classifier")
    assert run(repository, "git", "tag").stdout == "brain-tumour-classifier@v0.0.1\n"
    run(elsewhere, *get)
    expected = {path.name: path.read_bytes() for path in (repository / "artifacts/service").iterdir()}
    assert {path.name: path.read_bytes() for path in (elsewhere / "service").iterdir()} == expected
