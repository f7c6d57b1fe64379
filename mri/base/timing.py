"""How long stages take: each notes its seconds when it ends and estimates what is left; `make repro` shows them all."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from mri.base.hardware import peak_memory_mb

FILE = Path("artifacts/seconds.csv")
PUBLISHED = Path("results/benchmarks/stages.csv")  # FILE of a whole run of the default pipeline
SETTLED = 30.0  # seconds of stages by which this machine's pace is believed: the first ones are over in no time


class StageTime(NamedTuple):
    """A stage that has run.

    seconds: from the start of its process. cpu_seconds: with those of its children. peak_mb: of its memory, without
    its children.
    """

    stage: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


@contextmanager
def note_time(stage: str) -> Iterator[None]:
    """Add the time of this process to FILE and print it, unless what runs in it fails."""
    yield
    spent, started = os.times(), psutil.Process().create_time()
    row = StageTime(stage, time.time() - started, sum(spent[:4]), peak_memory_mb())
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("a", newline="", encoding="utf-8") as file:
        numbers = (f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}", f"{row.peak_mb:.0f}")
        csv.writer(file).writerow((row.stage, *numbers))
    print(f"{stage} took {row.seconds:.0f} s{time_left(stage)}", flush=True)


def stage_times(path: Path = FILE) -> list[StageTime]:
    """Return the stages that a file of `note_time` lists, in the order in which they ended; none where it is missing.

    Those of FILE have run since it was last deleted.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(StageTime._fields)]  # not one that was cut off
    return [StageTime(stage, *map(float, numbers)) for stage, *numbers in rows]


def time_left(stage: str, here: float = 0.0) -> str:
    """Return ", at most 4 min left": `here` seconds of a stage, and those of the stages after it in PUBLISHED.

    Each is expected to take as much longer than there as those that have run since. At most, as some may be up to
    date. "" where PUBLISHED doesn't have the stage.
    """
    published, done = {row.stage: row.seconds for row in stage_times(PUBLISHED)}, stage_times()
    if stage not in published:
        return ""
    known = [row for row in done if row.stage in published]
    before = sum(published[row.stage] for row in known)
    pace = (SETTLED + sum(row.seconds for row in known)) / (SETTLED + before)
    after = list(published)[list(published).index(stage) + 1 :]
    missing = set(after) - {row.stage for row in done}
    left = here + pace * sum(published[name] for name in missing)
    return f", at most {left:.0f} s left" if left < 100 else f", at most {left / 60:.0f} min left"
