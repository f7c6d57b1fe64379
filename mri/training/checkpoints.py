"""Training state that survives a kill: one file per run, outside the pipeline's outputs, which DVC empties.

A checkpoint is named by all that decides the training's weights (recipe, data, seed, code, the weights that it starts
and learns from), so no training resumes the state of another. Files are written beside their final name and moved into
place, so a kill leaves the old one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from mri.base.errors import UserError
from mri.base.files import sha256
from mri.base.params import parse_yaml
from mri.base.paths import PIPELINE, repository


def code_of_stage(stage: str) -> dict[str, str]:
    """Return the SHA-256 of every Python file below mri/ and stages/ that dvc.yaml lists as a dependency of `stage`.

    What makes DVC run the stage again is then what makes a training start anew. Raises UserError for a dependency that
    doesn't exist.
    """
    if not PIPELINE.is_file():
        raise UserError(f"{PIPELINE} not found: run from the top of the repository")
    entry = parse_yaml(PIPELINE.read_text(encoding="utf-8"), str(PIPELINE))["stages"][stage]
    files: list[Path] = []
    for path in (Path(dep) for dep in entry.get("do", entry)["deps"] if dep.startswith(("mri/", "stages/"))):
        if not path.exists():
            raise UserError(f"{PIPELINE}: stage {stage} depends on {path}, which does not exist: correct its deps")
        files += path.rglob("*.py") if path.is_dir() else [path]
    return {path.as_posix(): sha256(path) for path in sorted(files)}


def root() -> Path:
    """Return the folder of all checkpoints: $MRI_CHECKPOINTS, or .checkpoints in the repository."""
    return Path(os.environ.get("MRI_CHECKPOINTS") or repository() / ".checkpoints")


class Checkpoint:
    """The checkpoint of one training. `identity` is anything JSON can hold; equal identities are the same training."""

    def __init__(self, identity: dict[str, Any], folder: Path | None = None):
        text = json.dumps(identity, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = (folder or root()) / key
        self.path = self.folder / "last.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by `state` (tensors and plain values) in one step.

        Raises UserError when it can't be written; the checkpoint before it is kept.
        """
        unfinished = self.path.with_name(f"{os.getpid()}.tmp")  # equal runs, as in two experiments, may save at once
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch's writer hides the system's error behind one of its own
            unfinished.unlink(missing_ok=True)
            reason = error.__context__ or error
            raise UserError(
                f"{self.path} can't be written ({reason}): free some space; the checkpoint before it is kept"
            ) from None

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state; None without one, or when it is damaged, which one line on stderr says."""
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            print(f"{self.path} is damaged ({type(error).__name__}): training starts anew", file=sys.stderr)
            return None

    def remove(self) -> None:
        """Delete the checkpoint, if there is one."""
        shutil.rmtree(self.folder, ignore_errors=True)
