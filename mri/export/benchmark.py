"""Measure what a network costs: latency, throughput, memory and size, per runtime and per explanation method.

Each runtime is measured in a fresh process, so that its peak memory is its own; nothing else runs meanwhile. Latency is
of one image at a time, throughput of a batch; both after warm-up, on random pixels (the time does not depend on them).

    python -m mri.export.benchmark openvino_fp32 artifacts/models/resnet50 artifacts/exported/resnet50 96 32 2

measures one runtime in this process, which is what the benchmark stage starts, and prints its figures as JSON.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mri.base.cli import Parser, guarded, positive
from mri.base.errors import UserError

RUNTIMES = ("torch_fp32", "openvino_fp32", "openvino_bf16", "openvino_int8")


def measure_runtime(runtime: str, weights: Path, exported: Path, size: int, batch: int, seconds: float) -> dict:
    """Measure one runtime in a process of its own.

    Returns {latency_ms_p50, latency_ms_p95, throughput_img_s, peak_rss_mb, size_mb, cpu_per_wall}. weights: folder of
    the trained network. exported: folder of the exported one. Raises UserError for an unknown runtime.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"unknown runtime {runtime!r} in benchmark.runtimes: choose from {', '.join(RUNTIMES)}")
    # Not multiprocessing: its children import the caller's modules, and PyTorch in the same process costs another
    # runtime half its threads and a gigabyte.
    arguments = [runtime, str(weights), str(exported), str(size), str(batch), str(seconds)]
    command = [sys.executable, "-m", "mri.export.benchmark", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(runtime: str, weights: Path, exported: Path, size: int, batch: int, seconds: float) -> dict[str, float]:
    from mri.inference.runtime import Runtime, disk_size_mb

    precision = runtime.removeprefix("openvino_")
    call = _torch(weights) if runtime == "torch_fp32" else Runtime(exported, precision)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size), np.uint8)
    process, wall = time.process_time(), time.perf_counter()
    latencies = repeat(lambda: call(pixels[:1]), seconds)
    batched = repeat(lambda: call(pixels), seconds)
    busy = (time.process_time() - process) / (time.perf_counter() - wall)
    return {
        "latency_ms_p50": float(np.percentile(latencies, 50)) * 1e3,
        "latency_ms_p95": float(np.percentile(latencies, 95)) * 1e3,
        "throughput_img_s": batch / float(np.median(batched)),
        "peak_rss_mb": _peak_rss_mb(),
        "size_mb": _weights_mb(weights) if runtime == "torch_fp32" else disk_size_mb(exported, precision),
        "cpu_per_wall": busy,
    }


def _peak_rss_mb() -> float:
    """Return this process's own peak resident memory in MB: on Linux getrusage's figure starts at the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 / 1e6  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


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


def _torch(weights: Path) -> Callable[[np.ndarray], Any]:
    """Load a network in eager PyTorch and fp32, the usual way to serve."""
    import torch

    from mri.networks.models import load

    model = load(weights).model

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
    return {
        method: {
            "latency_ms_p50": float(np.median(repeat(lambda: explain(model, images, None, method), seconds))) * 1e3  # noqa: B023
        }
        for method in methods
    }


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
