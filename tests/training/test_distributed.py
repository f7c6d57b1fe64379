"""Training in several processes, with real processes under torchrun."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch

from benchmarks.serving import free_port
from mri.base.errors import UserError
from mri.base.files import read_json
from mri.training import distributed
from tests.gradients import gradients
from tests.workspace import THUMBNAIL, TWO_ARCHITECTURES, environment, make, run

SEVERAL = [*THUMBNAIL, *TWO_ARCHITECTURES, "train.devices=2", "train.phases=[{epochs: 2, size: 64}]"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A small dataset, split, and parameters that ask for two processes."""
    folder = make(tmp_path_factory.mktemp("together") / "project", SEVERAL)
    run(folder, "python", "-m", "stages.download")
    run(folder, "python", "-m", "stages.split")
    run(folder, "python", "-m", "stages.teacher")
    return folder


def test_alone_a_process_does_everything():
    assert distributed.rank() == 0 and distributed.size() == 1
    assert distributed.share(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    assert distributed.from_first("x") == "x"
    model = torch.nn.Linear(1, 1)
    assert distributed.parallel(model) is model


def test_a_batch_that_can_not_be_shared_evenly_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    with pytest.raises(UserError, match=r"train\.batch 8 can't be divided evenly among 3 processes"):
        distributed.share(np.arange(8))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"train\.devices=2, but this machine has 1 GPUs"):
        distributed.launch(2, "stages.train", ["resnet50"])


@pytest.mark.slow
def test_two_machines_as_the_readme_starts_them_train_together(root, tmp_path):
    """Two agents on this machine stand for them."""
    (line,) = re.findall(r"^torchrun .*", (root / "docs/training.md").read_text(), re.MULTILINE)
    fitted = {"FIRST_MACHINE": "127.0.0.1", "29500": str(free_port())}
    options = [fitted.get(word, word) for word in line.split()[1 : line.split().index("-m")]]
    out = tmp_path / "gradients.pt"

    def start(rank: int) -> subprocess.Popen:
        command = [sys.executable, "-m", "torch.distributed.run", *options, "--node-rank", str(rank)]
        return subprocess.Popen([*command, "-m", "tests.gradients", str(out)], cwd=root, env=environment(tmp_path))

    assert [agent.wait(timeout=120) for agent in (start(1), start(0))] == [0, 0]
    assert torch.allclose(torch.load(out), gradients(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_processes_with_half_the_batch_each_give_the_gradients_of_one_with_all_of_it(root, tmp_path):
    out = tmp_path / "gradients.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, "-m", "tests.gradients", str(out)], cwd=root, env=environment(tmp_path), check=True)
    together, alone = torch.load(out), gradients()
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-6)
    assert alone.abs().max() > 1e-3


@pytest.mark.slow
def test_the_train_stage_starts_its_own_processes_and_one_of_them_writes(workspace):
    run(workspace, "python", "-m", "stages.train", "efficientnet_b0")
    metrics = read_json(workspace / "metrics/details/train/efficientnet_b0.json")
    assert metrics["epochs"] == 2
    assert (workspace / "artifacts/models/efficientnet_b0/model.safetensors").exists()
    assert not list((workspace / ".checkpoints").glob("*/*"))


@pytest.mark.slow
def test_when_one_process_is_killed_training_ends_with_an_error_and_does_not_hang(workspace):
    command = [sys.executable, "-m", "stages.train", "resnet50"]
    log = workspace / "killed.txt"
    with log.open("w") as file:
        training = subprocess.Popen(command, cwd=workspace, env=environment(workspace), stdout=file, stderr=file)
        try:
            _wait_for(lambda: list((workspace / ".checkpoints").glob("*/last.pt")), training)
            victim = _workers(training.pid)[-1]
            os.kill(victim.pid, signal.SIGKILL)
            assert training.wait(timeout=120) == 2
        finally:
            for process in _workers(training.pid):
                process.kill()
            training.kill()
    assert "ended with exit code -9" in log.read_text()


def _workers(pid: int) -> list[psutil.Process]:
    if not psutil.pid_exists(pid):
        return []
    return [
        child for child in psutil.Process(pid).children(recursive=True) if "stages.train" in " ".join(child.cmdline())
    ]


def _wait_for(condition, process: subprocess.Popen, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
