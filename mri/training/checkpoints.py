"""Training state that survives a kill: one file per run, outside the pipeline's outputs, which DVC empties.

A run is named by what defines it (recipe, data, seed, code, the weights it starts and learns from), so none resumes the
state of another. Files are written beside their final name and moved into place, so a kill leaves the old one.
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
from mri.base.paths import repository


def root() -> Path:
    """Where checkpoints live: $MRI_CHECKPOINTS, or .checkpoints in the repository."""
    return Path(os.environ.get("MRI_CHECKPOINTS") or repository() / ".checkpoints")


class Checkpoint:
    """The checkpoint of one run. `identity` is anything JSON can hold; equal identities are the same run."""

    def __init__(self, identity: dict[str, Any], folder: Path | None = None):
        text = json.dumps(identity, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = (folder or root()) / key
        self.path = self.folder / "last.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by `state` (tensors and plain values) in one step.

        Raises UserError when it can't be written; the checkpoint before it is kept.
        """
        unfinished = self.path.with_name(f"{os.getpid()}.tmp")  # equal runs, as in two experiments, may go on at once
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch's writer covers the system's error with one of its own
            unfinished.unlink(missing_ok=True)
            reason = error.__context__ or error
            raise UserError(
                f"{self.path} can't be written ({reason}): free some space; the checkpoint before it is kept"
            ) from None

    def load(self) -> dict[str, Any] | None:
        """The last saved state, or None when there is none or it can't be read (which one line on stderr says)."""
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            print(f"{self.path} is damaged ({type(error).__name__}): training starts anew", file=sys.stderr)
            return None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
