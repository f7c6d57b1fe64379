"""Compare ways to run a network for many clients, and write results/benchmarks/batching.json.

    python -m benchmarks.batching                       # the winner of artifacts/service, about 4 minutes
    python -m benchmarks.batching --package results/kaggle/package --rounds 1 --seconds 2

The ways are those of benchmarks/batching_service.py: shared (the service's), streams and batchable. Each is a server of
its own with nothing but decoding and the network, never two at the same time, in turns. So many clients (1, 8, 32) ask
for a few seconds, each as soon as it has its answer. Figures are medians over the rounds; `best` names the way with
most requests/s for each number of clients.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import records
from benchmarks.local_service import free_port
from benchmarks.serving import ANSWER_SECONDS, form, medians, pictures, serving, summary
from mri.base.cli import Parser, guarded, positive
from mri.base.errors import UserError
from mri.base.paths import SERVICE
from mri.inference.package import Package

OUT = Path("results/benchmarks/batching.json")
WAYS = ("shared", "streams", "batchable")
CLIENTS = (1, 8, 32)


async def ask(session: aiohttp.ClientSession, address: str, body: bytes, content_type: str) -> None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with session.post(address, data=body, headers={"Content-Type": content_type}, timeout=timeout) as answer:
        text = await answer.text()
        if answer.status != 200:
            raise UserError(f"{address} answered {answer.status}: {text[:300]}")


async def load(address: str, clients: int, seconds: float) -> dict[str, float]:
    """Return requests/s and percentiles of what so many clients wait for."""
    bodies = [form(picture, {}) for picture in pictures()]
    times: list[float] = []
    # The server closes connections that were idle for 5 s, as they may be after a warm-up on a busy machine.
    connector = aiohttp.TCPConnector(limit=clients, keepalive_timeout=2)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(ask(session, address, *bodies[n % len(bodies)]) for n in range(clients)))  # warm-up
        started = time.perf_counter()

        async def client(count: int) -> None:
            while time.perf_counter() - started < seconds:
                asked = time.perf_counter()
                await ask(session, address, *bodies[count % len(bodies)])
                times.append(time.perf_counter() - asked)
                count += 1

        await asyncio.gather(*(client(first) for first in range(clients)))
        return summary(times, time.perf_counter() - started)


def run(way: str, package: Path, network: str, seconds: float) -> dict[str, Any]:
    """Measure one way on a server that is started for it: {clients: figures}."""
    port = free_port()
    service = "benchmarks.batching_service:Batching"
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        own = {"BATCHING_WAY": way, "BATCHING_PACKAGE": str(package.absolute()), "BATCHING_NETWORK": network}
        own |= {"BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "true"}
        with serving(command, os.environ | own, port) as server:
            figures = {str(n): asyncio.run(load(f"{server.address}/predict", n, seconds)) for n in CLIENTS}
    said = ", ".join(f"{row['requests_per_s']:.1f}/s ({n})" for n, row in figures.items())
    print(f"{way}: {said}", flush=True)
    return figures


def best(ways: dict[str, Any]) -> dict[str, str]:
    """Return the way with most requests/s, by the number of clients."""
    numbers = next(iter(ways.values()))
    return {n: max(ways, key=lambda way: ways[way][n]["requests_per_s"]) for n in numbers}


def main() -> None:
    parser = Parser("benchmarks.batching", __doc__)
    parser.add_argument("--package", type=Path, default=SERVICE, help="default: %(default)s")
    parser.add_argument("--model", default="", metavar="NAME", help="a network of the package (default: the winner)")
    parser.add_argument("--rounds", type=positive(int), default=3, help="runs of each server (default: %(default)s)")
    parser.add_argument("--seconds", type=positive(float), default=5, help="of each case (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    arguments = parser.parse_args()
    network = Package(arguments.package).network(arguments.model)
    rounds = [
        {way: run(way, arguments.package, network.name, arguments.seconds) for way in WAYS}
        for _ in range(arguments.rounds)
    ]
    ways = medians(rounds)
    content = {"model": network.name, "precision": network.runtime.precision, "ways": ways, "best": best(ways)}
    records.write("benchmarks.batching", content, arguments.out)


if __name__ == "__main__":
    guarded(main)
