"""A killed training run: `dvc repro` resumes it and ends with the weights of an undisturbed run."""

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.workspace import THUMBNAIL, environment, make, run

ARCH = "efficientnet_b0"
OVERRIDES = [*THUMBNAIL, f"model={ARCH}", "train.phases=[{epochs: 4, size: 64}]"]
STAGE = ["dvc", "repro", f"train@{ARCH}"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("faults") / "project", OVERRIDES)
    run(folder, "dvc", "repro", "split")
    return folder


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / f"artifacts/models/{ARCH}/model.safetensors").read_bytes()).hexdigest()


def epochs(folder: Path) -> int:
    history = folder / f"plots/history/{ARCH}.csv"
    return len(history.read_text().splitlines()) - 1


def kill_when(folder: Path, printed: str, wait: float) -> str:
    """Start the stage in a new session, SIGKILL it `wait` seconds after it printed `printed`; return its output."""
    log = folder / "killed.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            STAGE, cwd=folder, env=environment(folder), stdout=file, stderr=file, start_new_session=True
        )
        deadline = time.monotonic() + 240
        while printed not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return log.read_text()


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_weights_of_one_that_was_not(workspace):
    run(workspace, *STAGE)
    undisturbed = weights(workspace)
    # Forget the run, so that it is trained anew and not restored from DVC's cache.
    forget(workspace)
    kill_when(workspace, "Running stage", 1.0)  # before the first epoch
    kill_when(workspace, "epoch 1:", 0.0)  # just after a checkpoint
    printed = kill_when(workspace, "epoch 3:", 0.3)  # within an epoch
    assert "epoch 1:" not in printed, "finished epochs are not trained again"
    printed = run(workspace, *STAGE).stdout
    assert "epoch 4:" in printed and "epoch 2:" not in printed
    assert weights(workspace) == undisturbed
    assert epochs(workspace) == 4
    assert not list((workspace / ".checkpoints").glob("*/*")), "a finished run leaves no checkpoint"


def forget(folder: Path) -> None:
    """Remove every trace of the trained stage except its training data."""
    lock = folder / "dvc.lock"
    text = lock.read_text()
    lock.write_text(text[: text.index(f"  train@{ARCH}:")])
    for stale in (folder / ".dvc/cache/runs").rglob("*"):
        if stale.is_file() and f"stages.train {ARCH}" in stale.read_text():
            stale.unlink()


@pytest.mark.slow
def test_a_training_whose_results_could_not_be_written_is_not_repeated(workspace):
    stage = ["python", "-m", "stages.train", ARCH]
    checkpoints, metrics = workspace / ".checkpoints", workspace / f"metrics/details/train/{ARCH}.json"
    metrics.unlink(missing_ok=True)
    metrics.mkdir(parents=True)  # where a file is to be
    assert run(workspace, *stage, check=False).returncode != 0
    trained = weights(workspace)
    assert len(list(checkpoints.glob("*/last.pt"))) == 1
    metrics.rmdir()
    assert "epoch" not in run(workspace, *stage).stdout
    assert weights(workspace) == trained and metrics.is_file()
    assert not list(checkpoints.glob("*/*"))
