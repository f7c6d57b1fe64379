"""A copy of the repository with parameters of thumbnail size, in which tests run the real pipeline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from mri.commands.compose import compose

ROOT = Path(__file__).parents[1]
COPIED = [
    "conf",
    "mri",
    "notebooks",
    "stages",
    "service",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/plots",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "pyproject.toml",
    "requirements.lock",
]

# Everything is real but small: a few patients, one epoch, 64 pixels.
THUMBNAIL = [
    "size=64",
    "data.options.patients=6",
    "train.phases=[{epochs: 1, size: 64}]",
    "train.batch=8",
    "train.precision=fp32",
    "evaluate.resamples=100",
    "explain.images=8",
    "explain.sheet=2",
    "benchmark.seconds=0.2",
    "benchmark.runtimes=[torch_fp32,openvino_fp32]",  # fp32 serves, so that answers equal what evaluation computed
    "benchmark.batch=4",
]
TWO_ARCHITECTURES = ["~model.architectures.resnet101", "~model.architectures.efficientnet_b1"]


def make(folder: Path, overrides: list[str]) -> Path:
    """Create a git repository in `folder` with the project's files and params.yaml composed with `overrides`."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    parameters = compose(overrides, folder / "conf")
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    run(folder, "git", "init", "-q", "-b", "main")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "a commit")


def environment(folder: Path) -> dict[str, str]:
    """Return variables with this environment's commands first on PATH and nothing shared with the user's own runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "MRI_"))}
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BENTOML_HOME": str(folder / ".bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
        "DVC_NO_ANALYTICS": "1",
    }


def run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run a command in the copy; a failure shows what it printed."""
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done
