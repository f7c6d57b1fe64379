"""How long stages take: each notes its seconds when it ends, and `make repro` shows them all."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

FILE = Path("artifacts/seconds.csv")


class StageTime(NamedTuple):
    """A stage that has run. seconds: from the start of its process. cpu_seconds: with those of its children."""

    stage: str
    seconds: float
    cpu_seconds: float


@contextmanager
def note_time(stage: str) -> Iterator[None]:
    """Add the time of this process to FILE and print it, unless what runs in it fails."""
    yield
    spent, started = os.times(), psutil.Process().create_time()
    row = StageTime(stage, time.time() - started, sum(spent[:4]))
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow((row.stage, f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}"))
    print(f"{stage} took {row.seconds:.0f} s", flush=True)


def stage_times() -> list[StageTime]:
    """Return the stages that have run since FILE was last deleted, in their order."""
    if not FILE.is_file():
        return []
    with FILE.open(newline="", encoding="utf-8") as file:
        return [StageTime(stage, float(seconds), float(cpu)) for stage, seconds, cpu in csv.reader(file)]
