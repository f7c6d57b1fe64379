"""Time the search for near-duplicates against the usual ways, and write results/benchmarks/audit.json.

    python -m benchmarks.audit

Images are synthetic heads, as similar to each other as real slices (median NCC 0.6, one pair in a thousand above 0.93
by the search's bound); one in three is a mirrored or rotated and darkened copy of the previous one. Every method gets
the same images and looks for the same pairs: NCC of at least 0.93 in either view, under all eight transforms.

- search: `mri.data.matching.similar_pairs`;
- dense: every NCC as one entry of a blocked matrix product of whole images, the fastest way without a bound;
- loop: one NCC after the other in a Python loop over pairs, the usual way (scripts built on imagehash do the same with
  hashes), timed on few images and scaled by the number of pairs.
"""

from __future__ import annotations

import itertools
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import records
from mri.base.cli import Parser, guarded, positive
from mri.data.matching import BLOCK, TRANSFORMS, similar_pairs, transform, views

OUT = Path("results/benchmarks/audit.json")
SIZE, THUMBNAIL, THRESHOLD = 160, 80, 0.93
LOOPED, DENSE, SEARCHED, MANY = 60, 1404, 7020, 70200


def pictures(count: int, size: int, out: Path) -> np.ndarray:
    """Draw heads of smooth texture, uint8 (count, 2, size, size), memory-mapped below `out`."""
    stack = np.lib.format.open_memmap(out / f"{count}.npy", "w+", np.uint8, (count, 2, size, size))
    random = np.random.default_rng(0)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    head: np.ndarray = np.zeros((size, size), np.uint8)
    for i in range(count):
        if i % 3:
            across, down = random.uniform(0.28, 0.46, 2)
            texture = Image.fromarray(random.integers(0, 256, (5, 5), np.uint8)).resize((size, size))
            head = np.where(np.hypot(x / across, y / down) < 1, np.asarray(texture), np.uint8(0))
            stack[i] = views(head, size)
        else:
            copy = transform(head, str(random.choice(TRANSFORMS)))
            stack[i] = views((copy * random.uniform(0.6, 1)).astype(np.uint8), size)
    return stack


def standardised(stack: np.ndarray) -> np.ndarray:
    """Return vectors of mean 0 and length 1, float32 (N, 2, S * S)."""
    vectors = stack.reshape(*stack.shape[:2], -1).astype(np.float32)
    vectors -= vectors.mean(2, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-6)


def dense(stack: np.ndarray) -> set[tuple[int, int]]:
    """Find the pairs by matrix products of all pixels, half of each product skipped."""
    x, pairs = standardised(stack), set()
    step = max(1, BLOCK // len(stack))
    for name in TRANSFORMS:
        y = standardised(np.ascontiguousarray(transform(stack, name)))
        for start, view in itertools.product(range(0, len(x), step), range(2)):
            close = x[start : start + step, view] @ y[start:, view].T >= THRESHOLD
            a, b = np.nonzero(close)
            pairs |= {(i + start, j + start) for i, j in zip(a.tolist(), b.tolist(), strict=True) if i < j}
    return pairs


def loop(stack: np.ndarray) -> set[tuple[int, int]]:
    """Find the pairs one by one."""
    x = standardised(stack)
    turned = [standardised(np.ascontiguousarray(transform(stack, name))) for name in TRANSFORMS]
    return {
        (a, b)
        for a, b in itertools.combinations(range(len(x)), 2)
        if max(float(x[a, view] @ y[b, view]) for y in turned for view in range(2)) >= THRESHOLD
    }


def search(stack: np.ndarray, threshold: float = THRESHOLD) -> set[tuple[int, int]]:
    pairs = similar_pairs(stack, threshold, cells=20)
    return set(zip(pairs["a"].tolist(), pairs["b"].tolist(), strict=True))


def measure(call: Callable[[np.ndarray], set], stack: np.ndarray, repeats: int) -> tuple[dict[str, Any], set]:
    """Measure the seconds of each run, with the images already loaded; return the figures and the pairs."""
    walls, cpu, pairs = [], 0.0, set()
    for _ in range(repeats):
        wall, busy = time.perf_counter(), time.process_time()
        pairs = call(stack)
        walls.append(time.perf_counter() - wall)
        cpu += time.process_time() - busy
    result = {
        "pictures": len(stack),
        "side": stack.shape[-1],
        "pairs_found": len(pairs),
        "seconds": walls,
        "median_seconds": statistics.median(walls),
        "cpu_seconds": cpu / repeats,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }
    print(call.__name__, result, flush=True)
    return result, pairs


def main() -> None:
    parser = Parser("benchmarks.audit", __doc__)
    parser.add_argument("--repeats", type=positive(int), default=3, help="runs of each (the largest runs once)")
    parser.add_argument("--largest", type=int, default=MANY, help="pictures of the largest search; 0 leaves it out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = pictures(SEARCHED, SIZE, Path(folder))
        # Peak memory never falls, so the search, whose peak is reported, goes first.
        runs = {"search": measure(search, stack, arguments.repeats)[0]}
        if arguments.largest:
            many = pictures(arguments.largest, THUMBNAIL, Path(folder))
            runs["search_many"] = measure(search, many, 1)[0]
        runs["search_few"] = measure(search, stack[:DENSE], arguments.repeats)[0]
        runs["dense"], by_products = measure(dense, stack[:DENSE], arguments.repeats)
        runs["loop"], by_loop = measure(loop, stack[:LOOPED], arguments.repeats)
        for pairs, count in ((by_products, DENSE), (by_loop, LOOPED)):  # equal, except where rounding decides
            if not search(stack[:count], THRESHOLD + 1e-4) <= pairs <= search(stack[:count], THRESHOLD - 1e-4):
                raise SystemExit("the methods disagree")
    content = {
        "runs": runs,
        "medians": {name: run["median_seconds"] for name, run in runs.items()},
        "ratios": ratios(runs),
    }
    records.write("benchmarks.audit", content, OUT)


def ratios(runs: dict[str, Any]) -> dict[str, float]:
    """Return how many times longer the other methods take.

    Time scales with the number of pairs, by which the loop's few images are compared with the search's many;
    loop_scaled_seconds is what the loop would take for all of them.
    """

    def pairs(name: str) -> float:
        return runs[name]["pictures"] * (runs[name]["pictures"] - 1) / 2

    scaled = runs["loop"]["median_seconds"] * pairs("search") / pairs("loop")
    return {
        "dense_over_search": runs["dense"]["median_seconds"] / runs["search_few"]["median_seconds"],
        "loop_over_search": scaled / runs["search"]["median_seconds"],
        "loop_scaled_seconds": scaled,
    }


if __name__ == "__main__":
    guarded(main)
