"""Measure what a network costs: latency, throughput, memory and size, per runtime and per explanation method.

Each runtime is measured in a fresh process, so that its peak memory is its own; nothing else runs meanwhile. Latency is
of one image at a time, throughput of a batch; both after warm-up, on random pixels (the time does not depend on them).
Explanations are timed in eager PyTorch, which alone makes every kind of map.

    python -m mri.export.benchmark openvino_fp32 artifacts/models/resnet50 artifacts/exported/resnet50 96 32 2

measures one runtime in this process, which is what the benchmark stage starts, and prints its figures as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mri.base.cli import Parser, guarded, positive
from mri.base.errors import UserError
from mri.base.hardware import peak_memory_mb
from mri.inference.methods import METHODS

PYTORCH = "torch_fp32"
RUNTIMES = (PYTORCH, "openvino_fp32", "openvino_bf16", "openvino_int8")


def measure_runtime(runtime: str, weights: Path, exported: Path, size: int, batch: int, seconds: float) -> dict:
    """Measure one runtime in a process of its own.

    Returns {latency_ms_p50, latency_ms_p95, throughput_img_s, peak_rss_mb, size_mb, cpu_per_wall}, of PYTORCH also
    "explanations" (see `measure_explanations`). weights: folder of the trained network. exported: folder of the
    exported one. Raises UserError for an unknown runtime.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"unknown runtime {runtime!r} in benchmark.runtimes: choose from {', '.join(RUNTIMES)}")
    # Not multiprocessing: its children import the caller's modules, and PyTorch in the same process costs another
    # runtime half its threads and a gigabyte.
    arguments = [runtime, str(weights), str(exported), str(size), str(batch), str(seconds)]
    command = [sys.executable, "-m", "mri.export.benchmark", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(runtime: str, weights: Path, exported: Path, size: int, batch: int, seconds: float) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size), np.uint8)
    if runtime == PYTORCH:
        from mri.networks.models import load

        model = load(weights).model
        costs = _costs(_eagerly(model), pixels, seconds) | {"size_mb": _weights_mb(weights)}
        return costs | {"explanations": measure_explanations(model, pixels[:1], list(METHODS), seconds / 2)}
    from mri.inference.runtime import Runtime, disk_size_mb

    precision = runtime.removeprefix("openvino_")
    return _costs(Runtime(exported, precision), pixels, seconds) | {"size_mb": disk_size_mb(exported, precision)}


def _costs(call: Callable[[np.ndarray], Any], pixels: np.ndarray, seconds: float) -> dict[str, float]:
    """Time single images and batches; the peak memory is the process's."""
    process, wall = time.process_time(), time.perf_counter()
    latencies = repeat(lambda: call(pixels[:1]), seconds, at_least=20)
    batched = repeat(lambda: call(pixels), seconds, warmup=1, at_least=3)  # warm from single images but for its size
    busy = (time.process_time() - process) / (time.perf_counter() - wall)
    return {
        "latency_ms_p50": float(np.percentile(latencies, 50)) * 1e3,
        "latency_ms_p95": float(np.percentile(latencies, 95)) * 1e3,
        "throughput_img_s": len(pixels) / float(np.median(batched)),
        "peak_rss_mb": peak_memory_mb(),
        "cpu_per_wall": busy,
    }


def repeat(call: Callable[[], Any], seconds: float, warmup: int = 3, at_least: int = 5) -> list[float]:
    """Call repeatedly for about `seconds`, after `warmup` calls, and return the seconds of each call."""
    for _ in range(warmup):
        call()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < at_least or time.perf_counter() < deadline:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def _eagerly(model: Any) -> Callable[[np.ndarray], Any]:
    """Call a network in eager PyTorch and fp32, the usual way to serve."""
    import torch

    def call(pixels: np.ndarray) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(pixels).unsqueeze(1).float() / 255)

    return call


def _weights_mb(weights: Path) -> float:
    return (weights / "model.safetensors").stat().st_size / 1e6


def measure_explanations(model: Any, pixels: np.ndarray, methods: list[str], seconds: float) -> dict[str, dict]:
    """Measure prediction and one map of one image, in eager PyTorch: {method: {latency_ms_p50}}.

    model: a `mri.networks.models.Classifier`. pixels: uint8 (1, S, S).
    """
    from mri.explanation.maps import explain
    from mri.networks.predict import to_tensor

    images = to_tensor(pixels)
    times = {
        method: repeat(lambda: explain(model, images, None, method), seconds, warmup=1)  # noqa: B023
        for method in methods
    }
    return {method: {"latency_ms_p50": float(np.median(each)) * 1e3} for method, each in times.items()}


def main() -> None:
    parser = Parser("mri.export.benchmark", __doc__)
    parser.add_argument("runtime", choices=RUNTIMES)
    parser.add_argument("weights", type=Path, help="folder of the trained model")
    parser.add_argument("exported", type=Path, help="folder of the exported one")
    parser.add_argument("size", type=positive(int), help="side of an image in pixels")
    parser.add_argument("batch", type=positive(int), help="images at a time for throughput")
    parser.add_argument("seconds", type=positive(float), help="of each measurement")
    print(json.dumps(_measure(**vars(parser.parse_args()))))


if __name__ == "__main__":
    guarded(main)
