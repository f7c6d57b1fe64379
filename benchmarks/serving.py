"""Time the service against the usual way to serve a network, and write results/benchmarks/serving.json.

    python -m benchmarks.serving                             # all four networks, about 15 minutes
    python -m benchmarks.serving --models resnet50 --rounds 1 --seconds 1

It takes the networks of a pipeline run: artifacts/models (PyTorch) and artifacts/service (the package). Both servers
run in processes of their own, never at the same time and in turns, on the same JPEGs of 512 pixels a side.

- usual: benchmarks/usual_service.py, FastAPI over eager fp32 PyTorch, pytorch-grad-cam and matplotlib.
- ours: `bentoml serve` as `make serve` runs it, in the precision that each network's card names.

What is asked for: `predict` (no map), `gradcam` (with that map), `maps` (Grad-CAM, Guided Backprop and Guided Grad-CAM
in one request, at most 8 at a time, as more than that wait for a minute where the usual way serves; MRI_EXPLANATIONS is
4 so that 8 are taken in). So many clients ask for a few seconds, each as soon as it has its answer; milliseconds are
what a client waits for. `ready_s` is the time from the start of the process to its first answer; memory is that of the
server's processes together, resident (shared pages counted for each of them) and proportional.

In one process without a server (`runtime`): the model call of one image, what Grad-CAM adds to it (`explain_cost`), and
how near the call comes to this machine's rate of multiply-adds in a square matrix product of the same number format
(`gemm_share`). `model_call_share` is that call's time over the time that a request takes of the service at concurrency
8. `ratios` are ours over the usual way's requests/s, the least of all concurrencies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import psutil
from PIL import Image

from benchmarks import records
from benchmarks.local_service import free_port
from benchmarks.training import JPEG_SIDE
from mri.base.cli import Parser, guarded, positive
from mri.base.errors import UserError
from mri.base.paths import MODELS, SERVICE
from mri.export.benchmark import repeat
from mri.inference.gradcam import gradcam_from_features, upsample
from mri.inference.package import Package
from mri.networks import models
from service.pages import SAMPLES

OUT = Path("results/benchmarks/serving.json")
SERVERS = ("usual", "ours")
# What is asked for, and how many at a time.
METHODS = {"predict": "", "gradcam": "gradcam", "maps": "gradcam,guided_backprop,guided_gradcam"}
CONCURRENCIES = {"predict": (1, 8, 32), "gradcam": (1, 8, 32), "maps": (1, 8)}
CORE, BUSY = "resnet50", "8"  # the case that `model_call_share` is reported of
GEMM_SIDE = 2048
START_SECONDS, ANSWER_SECONDS = 120, 120


class Server(NamedTuple):
    """A server that answers: where, its process, and the seconds from its start to its first answer."""

    address: str
    process: psutil.Process
    ready_s: float


def pictures() -> list[bytes]:
    """Return the page's sample scans as JPEGs of the Kaggle set's size."""
    jpegs = []
    for path in sorted(SAMPLES.glob("*.png")):
        buffer = io.BytesIO()
        Image.open(path).resize((JPEG_SIDE, JPEG_SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        jpegs.append(buffer.getvalue())
    return jpegs


def form(picture: bytes, fields: dict[str, str]) -> tuple[bytes, str]:
    """Return body and content type of a multipart request, prepared once so that clients cost next to nothing."""
    boundary = "benchmark-7d3f0c"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
             for name, value in fields.items()]  # fmt: skip
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'.encode()
    return b"".join(
        [*parts, head, picture, f"\r\n--{boundary}--\r\n".encode()]
    ), f"multipart/form-data; boundary={boundary}"


@contextlib.contextmanager
def serving(command: list[str], environment: dict[str, str], port: int) -> Iterator[Server]:
    """Run a server until the block ends. Raises UserError, with what it printed, when it doesn't answer in time."""
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            ready = asyncio.run(_first_answer(address, process, started))
            if ready is None:
                log.seek(0)
                raise UserError(f"{' '.join(command)} did not answer:\n{log.read()[-2000:]}")
            yield Server(address, psutil.Process(process.pid), ready)
        finally:
            _end(process)


async def _first_answer(address: str, process: subprocess.Popen, started: float) -> float | None:
    body, content_type = form(pictures()[0], {})
    async with aiohttp.ClientSession() as session:
        while process.poll() is None and time.perf_counter() - started < START_SECONDS:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{address}/readyz") as probe:
                    is_ready = probe.status == 200
                if is_ready:
                    await _ask(session, address, body, content_type)
                    return time.perf_counter() - started
            await asyncio.sleep(0.02)
    return None


def _end(process: subprocess.Popen) -> None:
    for end in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)


class Case(NamedTuple):
    """What is compared: a network's name and side in pixels, its package, and the folder of its PyTorch weights."""

    arch: str
    size: int
    package: Path
    weights: Path


def usual(case: Case, port: int) -> contextlib.AbstractContextManager[Server]:
    command = [sys.executable, "-m", "benchmarks.usual_service", str(case.weights), str(case.size), str(port)]
    return serving(command, dict(os.environ), port)


@contextlib.contextmanager
def ours(case: Case, port: int) -> Iterator[Server]:
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        own = {
            "MRI_SERVICE": str(case.package.absolute()),
            "MRI_MONITORING_URL": f"sqlite:///{folder}/monitoring.db",
            "MRI_ROLLUP_SECONDS": "0",
            "MRI_EXPLANATIONS": "4",
            "BENTOML_HOME": folder,
            "BENTOML_DO_NOT_TRACK": "true",
        }
        with serving(command, os.environ | own, port) as server:
            yield server


async def _ask(session: aiohttp.ClientSession, address: str, body: bytes, content_type: str) -> dict[str, Any]:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    headers = {"Content-Type": content_type}
    async with session.post(f"{address}/predict", data=body, headers=headers, timeout=timeout) as answer:
        if answer.status != 200:
            raise UserError(f"{address}/predict answered {answer.status}: {(await answer.text())[:300]}")
        return json.loads(await answer.read())


async def _load(
    address: str, bodies: list[tuple[bytes, str]], clients: int, seconds: float
) -> tuple[list[float], list[dict[str, float]], float]:
    """Return the seconds of every request, the times of its parts by its answer, and the wall time of all requests."""
    times: list[float] = []
    parts: list[dict[str, float]] = []
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        for body in bodies:  # the first answers load a network and its graphs
            await _ask(session, address, *body)
        started = time.perf_counter()

        async def client(first: int) -> None:
            count = first
            while count == first or time.perf_counter() - started < seconds:
                asked = time.perf_counter()
                answer = await _ask(session, address, *bodies[count % len(bodies)])
                times.append(time.perf_counter() - asked)
                parts.append(answer.get("milliseconds", {}))
                count += 1

        await asyncio.gather(*(client(first) for first in range(clients)))
        return times, parts, time.perf_counter() - started


def measure(server: Server, method: str, clients: int, seconds: float, fields: dict[str, str]) -> dict[str, Any]:
    """Measure what so many clients get, and what the server's processes use meanwhile."""
    bodies = [
        form(picture, fields | ({"explain": METHODS[method]} if METHODS[method] else {})) for picture in pictures()
    ]
    before = processor_seconds(server.process)
    began = time.perf_counter()
    times, parts, wall = asyncio.run(_load(server.address, bodies, clients, seconds))
    busy = (processor_seconds(server.process) - before) / (time.perf_counter() - began)
    return summary(times, wall) | {"cpu_per_wall": busy, **memory(server.process), **part_medians(parts)}


def summary(times: list[float], wall: float) -> dict[str, float]:
    """Return requests/s, and percentiles of the clients' waiting times in milliseconds."""
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return {"requests": len(times), "requests_per_s": len(times) / wall, "p50_ms": float(p50), "p99_ms": float(p99)}


def part_medians(parts: list[dict[str, float]]) -> dict[str, float]:
    """Return {"network_ms": median, ...} of the parts' times in answers."""
    return {f"{name}_ms": statistics.median(part[name] for part in parts) for name in parts[0]}


def tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor seconds of a process and its descendants."""
    return sum(sum(one.cpu_times()[:2]) for one in tree(process))


def memory(process: psutil.Process) -> dict[str, float]:
    used = [one.memory_full_info() for one in tree(process)]
    return {"resident_mb": sum(one.rss for one in used) / 1e6, "proportional_mb": sum(one.pss for one in used) / 1e6}


def run(server: str, case: Case, seconds: float) -> dict[str, Any]:
    """Measure all cases of one network on a server that is started for it."""
    start = {"usual": usual, "ours": ours}[server]
    fields = {"model": case.arch} if server == "ours" else {}
    with start(case, free_port()) as running:
        figures: dict[str, Any] = {"ready_s": running.ready_s}
        for method, concurrencies in CONCURRENCIES.items():
            figures[method] = {str(n): measure(running, method, n, seconds, fields) for n in concurrencies}
    print(f"{case.arch} {server}: ready in {running.ready_s:.1f} s; {_headline(figures)}", flush=True)
    return figures


def _headline(figures: dict[str, Any]) -> str:
    return "; ".join(
        f"{method} " + " ".join(f"{row['requests_per_s']:.1f}/s ({n})" for n, row in figures[method].items())
        for method in CONCURRENCIES
    )


def runtime(case: Case, seconds: float) -> dict[str, Any]:
    """Measure the model call, Grad-CAM with it, and the machine's rate of multiply-adds, without a server."""
    network = Package(case.package).network(case.arch)
    pixels = np.random.default_rng(0).integers(0, 256, (1, network.size, network.size), np.uint8)
    weights = network.head_weights
    assert weights is not None

    def explained() -> None:
        opinion = network.opinions(pixels)[0]
        target = np.array([network.classes.index(opinion.label)])
        assert opinion.features is not None
        upsample(gradcam_from_features(opinion.features[None], weights, target), (network.size, network.size))

    call, plain, with_map = [], [], []
    for _ in range(3):  # in turns
        call += repeat(lambda: network.runtime(pixels), seconds / 3)
        plain += repeat(lambda: network.opinions(pixels), seconds / 3)
        with_map += repeat(explained, seconds / 3)
    model_call = statistics.median(call)
    rate = models.gmac(models.load(case.weights).model, network.size) / model_call
    figures = {
        "precision": network.runtime.precision,
        "size_px": network.size,
        "model_call_ms": 1e3 * model_call,
        "predict_ms": 1e3 * statistics.median(plain),
        "predict_and_gradcam_ms": 1e3 * statistics.median(with_map),
        "explain_cost": statistics.median(with_map) / statistics.median(plain),
        "network_gmac_per_s": rate,
    }
    return figures | {"gemm_gmac_per_s": (gemm := products(seconds)), "gemm_share": rate / gemm[figures["precision"]]}


def products(seconds: float) -> dict[str, float]:
    """Measure a square matrix product: 10^9 multiply-adds per second, by number format."""
    import torch

    a, b = (torch.randint(-100, 100, (GEMM_SIDE, GEMM_SIDE), dtype=torch.int8) for _ in range(2))
    pairs = {"fp32": (a.float(), b.float()), "bf16": (a.bfloat16(), b.bfloat16())}
    calls = {name: lambda pair=pair: pair[0] @ pair[1] for name, pair in pairs.items()}
    calls["int8"] = lambda: torch._int_mm(a, b)
    return {
        name: GEMM_SIDE**3 / 1e9 / statistics.median(repeat(one, seconds / 6, at_least=3))
        for name, one in calls.items()
    }


def run_apart(case: Case, seconds: float) -> dict[str, Any]:
    """Call `runtime` in a process of its own."""
    arguments = ["--runtime", *(str(part) for part in case), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.serving", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(case: Case, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure both servers in turns: {"usual": medians over rounds, "ours": ..., "runtime": ...}."""
    results = [{server: run(server, case, seconds) for server in SERVERS} for _ in range(rounds)]
    both = {server: medians([result[server] for result in results]) for server in SERVERS}
    return {**both, "runtime": run_apart(case, seconds)}


def medians(runs: list[Any]) -> Any:
    """Return the median of each number in equally nested dictionaries."""
    if isinstance(runs[0], dict):
        return {key: medians([run[key] for run in runs]) for key in runs[0]}
    return statistics.median(runs)


def speedups(runs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return ours over the usual way's requests/s, {method: {concurrency: ratio}}."""
    return {
        method: {
            n: row["requests_per_s"] / runs["usual"][method][n]["requests_per_s"]
            for n, row in runs["ours"][method].items()
        }
        for method in CONCURRENCIES
    }


def ratios(runs: dict[str, Any]) -> dict[str, float]:
    """Return a network's least speed-up of each method, the cost of a map, and our p99 over the usual median."""
    least = {method: min(by_concurrency.values()) for method, by_concurrency in speedups(runs).items()}
    p99 = runs["ours"]["predict"][BUSY]["p99_ms"] / runs["usual"]["predict"][BUSY]["p50_ms"]
    return {**least, "explain_cost": runs["runtime"]["explain_cost"], "p99_over_usual_p50": p99}


def model_call_share(runs: dict[str, Any]) -> float:
    """Return the bare model call's share of the time that a request takes in the busy service."""
    return runs["runtime"]["model_call_ms"] * runs["ours"]["predict"][BUSY]["requests_per_s"] / 1e3


def report(runs: dict[str, Any], winner: str) -> dict[str, Any]:
    """Return the content of the file, for all networks."""
    content: dict[str, Any] = {"runs": runs, "ratios": {arch: ratios(one) for arch, one in runs.items()}}
    content["ratios_by_concurrency"] = {arch: speedups(one) for arch, one in runs.items()}
    content["gemm_share"] = {arch: one["runtime"]["gemm_share"] for arch, one in runs.items()}
    if CORE in runs:
        content["model_call_share"] = {CORE: model_call_share(runs[CORE])}
    if winner in runs:
        served = runs[winner]["ours"]
        content["winner"] = {
            "model": winner,
            "ready_s": served["ready_s"],
            "resident_mb": max(
                row["resident_mb"] for method in ("predict", "gradcam") for row in served[method].values()
            ),
            "resident_mb_with_all_maps": max(row["resident_mb"] for row in served["maps"].values()),
        }
    return content


def cases(package: Package, weights: Path, names: list[str]) -> list[Case]:
    """Return a case for each network. Raises UserError when one is missing."""
    for name in names:
        if name not in package.names:
            raise UserError(f"{package.folder} holds no {name!r}: choose from {', '.join(package.names)}")
        if not (weights / name).is_dir():
            raise UserError(f"{weights / name} does not exist: run `make repro` (or `dvc pull`) first")
    return [Case(name, package.cards[name]["input"]["size"], package.folder, weights / name) for name in names]


def main() -> None:
    parser = Parser("benchmarks.serving", __doc__)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="networks of the package (default: all)")
    parser.add_argument("--package", type=Path, default=SERVICE, help="default: %(default)s")
    parser.add_argument("--weights", type=Path, default=MODELS, help="default: %(default)s")
    parser.add_argument("--rounds", type=positive(int), default=2, help="runs of each server (default: %(default)s)")
    parser.add_argument("--seconds", type=positive(float), default=3, help="of each case (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument("--runtime", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.runtime:
        arch, size, package, weights, seconds = arguments.runtime
        print(json.dumps(runtime(Case(arch, int(size), Path(package), Path(weights)), float(seconds))))
        return
    packaged = Package(arguments.package)
    selected = cases(packaged, arguments.weights, arguments.models or packaged.names)
    content = {
        "dataset": packaged.about["dataset"],
        **report(
            {case.arch: compare(case, arguments.rounds, arguments.seconds) for case in selected}, packaged.default
        ),
    }
    records.write("benchmarks.serving", content, arguments.out)


if __name__ == "__main__":
    guarded(main)
