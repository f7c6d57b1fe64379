"""Time training beside other busy processes, and write results/benchmarks/neighbours.json.

    python -m benchmarks.neighbours

A laptop is never idle. One training step (EfficientNet-B0, 32 images of 96 pixels, all cores) is timed alone, beside
one and beside two processes that keep a core busy each, in turns. Twice: as the pipeline runs it, with OpenMP's threads
waiting asleep (see mri/__init__.py), and as PyTorch runs by default, where they spin.

slowdown_beside_one, slowdown_beside_two: of the pipeline's way, over its own time on an idle machine. idle_cost: the
pipeline's way over the default, both on an idle machine. usual: the default's own slowdowns, for comparison.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from mri.base.cli import Parser, guarded, positive
from mri.base.files import write_json
from mri.base.hardware import describe

OUT = Path("results/benchmarks/neighbours.json")
# GCC's OpenMP spins 300,000 times before it sleeps where nothing is set (libgomp manual, GOMP_SPINCOUNT).
WAYS = {"ours": {}, "usual": {"GOMP_SPINCOUNT": "300000"}}
BUSY = "while True: pass"
NEIGHBOURS = (0, 1, 2)


def measure(steps: int) -> float:
    """Return the median seconds of a training step in this process, after a warm-up."""
    import torch
    import torch.nn.functional as F

    from mri.base.params import parse
    from mri.commands.compose import compose
    from mri.networks import models

    spec = parse(compose([])).architecture("efficientnet_b0")
    model = models.build(spec, 4, seed=0).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.rand(32, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(32) % 4
    seconds = []
    for _ in range(steps + 3):
        started = time.perf_counter()
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[3:])


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep as many cores busy, each by a process of its own."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def step_seconds(way: str, neighbours: int, steps: int) -> float:
    """Return what `measure` finds in a fresh process beside so many neighbours."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-m", "benchmarks.neighbours", "--steps", str(steps), "--measure"]
    with busy(neighbours):
        done = subprocess.run(command, env=environment | WAYS[way], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def summarise(seconds: dict[str, dict[int, float]]) -> dict[str, float | dict[str, float]]:
    """Return the ratios of {way: {neighbours: seconds of a step}}."""
    slowdowns = {way: {n: by[n] / by[0] for n in NEIGHBOURS[1:]} for way, by in seconds.items()}
    return {
        "slowdown_beside_one": slowdowns["ours"][1],
        "slowdown_beside_two": slowdowns["ours"][2],
        "idle_cost": seconds["ours"][0] / seconds["usual"][0],
        "usual": {"slowdown_beside_one": slowdowns["usual"][1], "slowdown_beside_two": slowdowns["usual"][2]},
    }


def main() -> None:
    parser = Parser("benchmarks.neighbours", __doc__)
    parser.add_argument("--steps", type=positive(int), default=20, help="timed in each case (20)")
    parser.add_argument("--rounds", type=positive(int), default=3, help="of all cases in turn (3); medians count")
    parser.add_argument("--measure", action="store_true", help="time this process alone, and print the seconds")
    arguments = parser.parse_args()
    if arguments.measure:
        print(measure(arguments.steps))
        return
    rounds = [
        {way: {n: step_seconds(way, n, arguments.steps) for n in NEIGHBOURS} for way in WAYS}
        for _ in range(arguments.rounds)
    ]
    seconds = {way: {n: statistics.median(one[way][n] for one in rounds) for n in NEIGHBOURS} for way in WAYS}
    content = {"date": date.today().isoformat(), "hardware": describe(), **summarise(seconds), "step_seconds": seconds}
    write_json(content, OUT)
    print(json.dumps(summarise(seconds), indent=2))


if __name__ == "__main__":
    guarded(main)
