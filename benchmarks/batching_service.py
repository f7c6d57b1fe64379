"""One network behind a BentoML method, in three ways that benchmarks/batching.py compares; $BATCHING_WAY chooses.

- shared: as service/ runs it: a call that is alone gets all cores, calls at the same time share them.
- streams: as many streams as cores, one thread each.
- batchable: BentoML merges requests that wait (`batchable=True`) into batches, which get all cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import bentoml
import numpy as np

from mri.data import images
from mri.inference.package import Package
from mri.inference.runtime import PRECISIONS, Runtime, core, usable_cores

WAY = os.environ.get("BATCHING_WAY", "shared")
PACKAGE, NETWORK = os.environ.get("BATCHING_PACKAGE", ""), os.environ.get("BATCHING_NETWORK", "")
MOST = 32  # images in a batch
Infer = Callable[[np.ndarray], np.ndarray]


def streams(folder: Path) -> Infer:
    """Return a function from images, uint8 (N, S, S), to logits; each call runs on one core."""
    card = Runtime(folder)
    graph, hint = PRECISIONS[card.precision]
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": usable_cores(),
        "INFERENCE_NUM_THREADS": usable_cores(),
    }
    compiled = core().compile_model(folder / graph, "CPU", settings)
    compiled.create_infer_request().infer([np.zeros((1, card.size, card.size), np.uint8)])
    return lambda pixels: compiled.create_infer_request().infer([pixels]).to_tuple()[0]


def plain(folder: Path, shared: bool) -> Infer:
    runtime = Runtime(folder, shared=shared)
    return lambda pixels: runtime(pixels)[0]


@bentoml.service(name="ways_to_batch", workers=1, threads=2 * usable_cores(), traffic={"timeout": 120})
class Batching:
    """Classify images; every request sends one."""

    def __init__(self) -> None:
        package = Package(Path(PACKAGE))
        folder = package.folder / "models" / (NETWORK or package.default)
        self.size = package.cards[folder.name]["input"]["size"]
        self.infer = streams(folder) if WAY == "streams" else plain(folder, shared=WAY == "shared")

    @bentoml.api(batchable=WAY == "batchable", max_batch_size=MOST)
    def predict(self, image: list[Path]) -> list[list[float]]:
        pixels = [images.prepare(images.read(path.read_bytes(), "image"), self.size) for path in image]
        return self.infer(np.stack(pixels)).tolist()
