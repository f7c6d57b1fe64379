import subprocess
import sys

import pytest
import torch

from mri.base.errors import UserError
from mri.training.checkpoints import Checkpoint, code_of_stage
from tests.conftest import file_size_limit
from tests.workspace import ROOT

STATE = {"weights": torch.arange(3), "history": [{"epoch": 1, "loss": 0.5}]}


def test_a_saved_state_comes_back(tmp_path):
    Checkpoint({"lr": 0.1}, tmp_path).save(STATE)
    state = Checkpoint({"lr": 0.1}, tmp_path).load()
    assert torch.equal(state["weights"], STATE["weights"]) and state["history"] == STATE["history"]


def test_a_changed_parameter_never_resumes_a_stale_state(tmp_path):
    Checkpoint({"lr": 0.1}, tmp_path).save(STATE)
    assert Checkpoint({"lr": 0.2}, tmp_path).load() is None


def test_a_damaged_checkpoint_is_said_and_passed_over(tmp_path, capsys):
    checkpoint = Checkpoint({"lr": 0.1}, tmp_path)
    checkpoint.save(STATE)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:100])
    assert checkpoint.load() is None
    assert "damaged" in capsys.readouterr().err


def test_a_write_that_was_cut_short_leaves_the_state_before_it(tmp_path):
    checkpoint = Checkpoint({"lr": 0.1}, tmp_path)
    checkpoint.save(STATE)
    checkpoint.path.with_name("1.tmp").write_bytes(b"half of the next one")
    assert checkpoint.load()["history"] == STATE["history"]


def test_a_full_disk_is_one_line_and_leaves_the_state_before_it(tmp_path):
    checkpoint = Checkpoint({"lr": 0.1}, tmp_path)
    checkpoint.save(STATE)
    large = {"weights": torch.zeros(2**20), "history": []}
    with file_size_limit(2**20), pytest.raises(UserError, match=r"last\.pt can't be written .*File too large.*: free"):
        checkpoint.save(large)
    assert checkpoint.load()["history"] == STATE["history"]
    assert [path.name for path in checkpoint.folder.iterdir()] == ["last.pt"]


def test_a_removed_checkpoint_leaves_nothing(tmp_path):
    checkpoint = Checkpoint({"lr": 0.1}, tmp_path)
    checkpoint.save(STATE)
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []
    checkpoint.remove()  # twice does no harm


PIPELINE = """
stages:
  teacher: {cmd: x, deps: [artifacts/splits, mri/training, stages/teacher.py]}
  train:
    foreach: ${model.architectures}
    do: {cmd: "x ${key}", deps: ["artifacts/models/${key}", mri/training, stages/train.py]}
"""


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A dvc.yaml and the code that it lists."""
    monkeypatch.chdir(tmp_path)
    files = ("mri/training/trainer.py", "mri/training/deep/mix.py", "mri/data/images.py", "stages/train.py")
    for name in (*files, "stages/teacher.py", "mri/training/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return tmp_path


@pytest.mark.parametrize("stage", ["train", "teacher"])
def test_the_code_of_a_stage_is_what_dvc_yaml_lists(pipeline, stage):
    training = ["mri/training/deep/mix.py", "mri/training/trainer.py"]
    assert list(code_of_stage(stage)) == [*training, f"stages/{stage}.py"]


@pytest.mark.parametrize(
    ("name", "matters"),
    [("mri/training/deep/mix.py", True), ("stages/train.py", True), ("mri/data/images.py", False)],
)
def test_only_a_change_of_listed_code_changes_the_code_of_a_stage(pipeline, name, matters):
    before = code_of_stage("train")
    (pipeline / name).write_text("changed")
    assert (code_of_stage("train") != before) == matters


def test_code_that_dvc_yaml_lists_and_nobody_has_is_refused(pipeline):
    (pipeline / "stages/train.py").unlink()
    with pytest.raises(UserError, match=r"^dvc\.yaml: stage train depends on stages/train\.py, which does not exist"):
        code_of_stage("train")


def test_equal_runs_that_save_at_once_leave_a_whole_state(tmp_path):
    """As two experiments do that share a teacher: whoever is last, the state is one of theirs."""
    code = (
        "import sys, torch; from pathlib import Path; from mri.training.checkpoints import Checkpoint\n"
        "for turn in range(30): Checkpoint({}, Path(sys.argv[1])).save({'weights': torch.full((2**17,), float(turn))})"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert Checkpoint({}, tmp_path).load()["weights"].unique().tolist() == [29.0]
