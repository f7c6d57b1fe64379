"""What a stage has to tell the tracking server, on disk before it is sent: a server that is away loses nothing.

A journal is a folder in .mlflow-journal (in the repository, not in git): events.jsonl, to which lines are only ever
added, and copies of the files that go with them. It is deleted once everything in it has arrived.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mri.base.paths import repository

EVENTS, LOCK = "events.jsonl", "lock"


def home() -> Path:
    return repository() / ".mlflow-journal"


def ran() -> Path:
    """Return the file that names the pipeline run tracked last, which `mri.tracking.lockfile` reads and removes."""
    return home() / "ran"


def store_lock() -> FileLock:
    """Held while the tracking store is opened and runs are found or made there: stages may run at the same time."""
    home().mkdir(exist_ok=True)
    return FileLock(home() / "store.lock")


class Journal:
    """One journal. While a process writes or sends it, no other can open it; the lock of a dead process is no lock."""

    def __init__(self, folder: Path):
        """Raises filelock.Timeout when another process has it open."""
        self.folder = folder
        self.unreadable = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK, timeout=0)
        self._lock.acquire()

    def append(self, event: dict[str, Any]) -> None:
        """Add an event, or nothing: half a line would spoil the next one. Raises OSError, as on a full disk."""
        path = self.folder / EVENTS
        size = path.stat().st_size if path.is_file() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError:
            with suppress(OSError):
                os.truncate(path, size)
            raise

    def keep(self, path: Path) -> str:
        """Copy a file here, as it is now, and return its name in the journal."""
        name = f"{len(list(self.folder.iterdir())):04d}-{path.name}"
        shutil.copyfile(path, self.folder / name)
        return name

    def events(self) -> list[dict[str, Any]]:
        """All events in their order. Lines that can't be read are counted in `unreadable`.

        A last line that its writer didn't finish is none.
        """
        try:
            lines = (self.folder / EVENTS).read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        except FileNotFoundError:
            return []
        found = [event for event in map(_event, lines) if event is not None]
        self.unreadable = len(lines) - len(found)
        return found

    def close(self) -> None:
        self._lock.release()

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()


def _event(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def begin(name: str) -> Journal:
    """A new journal, named by the time, so that journals sort by age."""
    return Journal(home() / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{name}-{os.getpid()}")


def waiting() -> list[Journal]:
    """Journals that nobody is writing, the oldest first."""
    opened = (_opened(path.parent) for path in sorted(home().glob(f"*/{EVENTS}")))
    return [found for found in opened if found is not None]


def _opened(folder: Path) -> Journal | None:
    try:
        return Journal(folder)
    except Timeout:
        return None
