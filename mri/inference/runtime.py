"""Run networks as they are served: exported to OpenVINO, without PyTorch.

An exported network takes uint8 images as `mri.data.images.prepare` returns them and gives logits and the last feature
maps together, so Grad-CAM costs no second pass. It may also be there quantised to int8 (mri/export/quantisation.py);
its card names the precision that serves. A second graph gives the guided gradient (mri/export/guided.py).
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import special

from mri.base.errors import UserError

MODEL, INT8, GUIDED, CARD = "model.xml", "int8.xml", "guided.xml", "model.json"
Precision = Literal["fp32", "bf16", "int8"]
# The graph of each precision, and OpenVINO's precision hint for what is not quantised in it.
PRECISIONS: dict[str, tuple[str, str]] = {"fp32": (MODEL, "f32"), "bf16": (MODEL, "bf16"), "int8": (INT8, "f32")}
# OpenVINO's converter and NNCF send usage reports through this package; without it they don't.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def write_card(card: dict[str, Any], folder: Path) -> None:
    """Write model.json of an exported network."""
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


class Runtime:
    """An exported network, loaded. Safe to call from several threads: each call uses a request of its own.

    precision: "fp32"; "bf16", which is faster where the processor has it; "int8" where it was quantised; "" for the one
    that the network's card names. threads: 0 means all cores. shared: concurrent calls share the threads, which answers
    more of them than giving each all threads in turn; a call that is alone gets all. This doubles the memory.
    """

    def __init__(self, folder: Path, precision: str = "", threads: int = 0, shared: bool = False):
        self.folder = folder
        self.card = read_card(folder)
        self.classes: list[str] = self.card["classes"]
        self.size: int = self.card["input"]["size"]
        self.precision = precision or served_precision(self.card)
        self._threads = threads = threads or usable_cores()
        self._counting, self._loading = threading.Lock(), threading.Lock()
        self._calls = 0
        graph, hint = PRECISIONS[self.precision]
        blank = [np.zeros((1, self.size, self.size), np.uint8)]
        self._alone = self._together = _compile(folder / graph, hint, threads, blank)
        if shared and threads > 1:
            self._together = _compile(folder / graph, hint, threads, blank, "THROUGHPUT")
        self._guided: Any = None

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits, float32 (N, C), and features, float32 (N, K, h, w), of images, uint8 (N, size, size)."""
        with self._counting:
            compiled = self._together if self._calls else self._alone
            self._calls += 1
        try:
            logits, features = compiled.create_infer_request().infer([np.ascontiguousarray(pixels)]).to_tuple()
        finally:
            with self._counting:
                self._calls -= 1
        return logits, features

    def in_batches(self, pixels: np.ndarray, size: int = 32) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield logits and features of at most `size` images at a time."""
        return (self(pixels[start : start + size]) for start in range(0, len(pixels), size))

    def guided_gradient(self, pixels: np.ndarray, target: int) -> np.ndarray:
        """Return guided backpropagation of one class, float32 (size, size), as `mri.explanation.maps` defines it.

        pixels: uint8 (size, size). The first call loads its graph.
        """
        inputs = [pixels[None, None].astype(np.float32) / np.float32(255), np.array([target], np.int64)]
        with self._loading:
            if self._guided is None:
                self._guided = _compile(self.folder / GUIDED, "f32", self._threads, inputs)
        return self._guided.create_infer_request().infer(inputs)["gradient"][0]


@functools.cache
def core() -> Any:
    """Return the process's only `openvino.Core`, which is never destroyed.

    Each Core that loads the CPU plugin sets another signal stack for the thread and restores the previous one when it
    is destroyed. If two are destroyed in the order in which they were created, the second restores the stack of the
    first, which no longer exists, and the next signal that Python handles kills the process.
    """
    import openvino

    return openvino.Core()


_compiling = threading.Lock()


def _compile(path: Path, hint: str, threads: int, first: list[np.ndarray], aim: str = "LATENCY") -> Any:
    """Load the graph of a file and run it once, on `first`. aim: OpenVINO's "LATENCY" or "THROUGHPUT".

    What OpenVINO's Python layer sets up at its first inference isn't thread-safe: threads wait for each other while
    they hold the interpreter's lock, and the process hangs forever.
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": aim,
    }
    with _compiling:
        try:
            compiled = core().compile_model(path, "CPU", settings)
            compiled.create_infer_request().infer(first)
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1]
            raise UserError(f"{path} can't be loaded ({line}): run `dvc checkout --force`") from None
    return compiled


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_card(folder: Path) -> dict[str, Any]:
    """Read model.json of an exported network. Raises UserError when it is missing or damaged."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        card["input"]["size"], card["classes"]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `dvc repro` (or `dvc pull`) first") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: run `dvc checkout --force`") from None
    return card


def served_precision(card: dict[str, Any]) -> Precision:
    """Return the precision that a network's card names for serving; fp32 where it names none."""
    return card.get("precision", "fp32")


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities, float64 (N, C), of logits (N, C) that are divided by the temperature first."""
    return special.softmax(logits.astype(np.float64) / temperature, axis=-1)


def disk_size_mb(folder: Path, precision: str = "fp32") -> float:
    """Return the size on disk, in MB (10^6 bytes), of the graph that a precision runs."""
    graph = folder / PRECISIONS[precision][0]
    return sum(path.stat().st_size for path in (graph, graph.with_suffix(".bin"))) / 1e6
