"""Keep a service under load, and write results/benchmarks/load.json.

    python -m benchmarks.load
    python -m benchmarks.load --seconds 20    # only to try

64 clients ask without a pause, each over one connection, two workers answer. One request in twenty is malformed: no
image, a cut one, a missing field, an unknown model, another media type, a page that isn't there. One in ten wants a
map, one in ten sends a batch. A client that is told to come back later (503 with Retry-After) waits as long as it is
told.

A warm-up goes before the load that counts. Every figure is of requests that were over during the load, but two:

- outside: of the warm-up's requests, and of the last of every client, which is over after the load;
- recorded_exactly_once, rows_of_all_requests: whether the store has one row for every answered image or refused request
  from the first of the warm-up to the last, and no other; these rows, counted.

The others:

- unplanned_5xx: answers of 500 and above that aren't such a 503, and requests without an answer (no_answer: why);
- memory_growth: of the proportional set size of all the service's processes, from the end of the warm-up to the end of
  the load, in shares of the first; both are medians of a tenth of the samples. The warm-up is longer than BentoML's
  timeout (90 s), for which it keeps something of every request.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks import records
from benchmarks.local_service import Service, described, served
from mri.base.cli import Parser, guarded, positive
from mri.data.phantom.lesions import CLASSES
from service.pages import SAMPLES

OUT = Path("results/benchmarks/load.json")
CLIENTS, WORKERS, SECONDS, WARM_UP = 64, 2, 300.0, 120.0
MALFORMED, EXPLAINED, BATCHED = 0.05, 0.1, 0.1
BATCH = 3
# What is watched is recorded; the rest isn't about predictions.
RECORDED = ("/predict", "/predict_batch")

Ask = Callable[[httpx.Client, np.random.Generator], httpx.Response]


@dataclass
class Tally:
    """What clients have counted.

    requests: how many are over. broken: how connections broke. rows: the ids that the store should hold. ms: of answers
    with status 200.
    """

    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    rows: list[str] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    malformed: int = 0

    def count(self, answer: httpx.Response, malformed: bool = False) -> None:
        """Count one answer. malformed: whether the request was malformed."""
        self.requests += 1
        self.malformed += malformed
        self.statuses[_name(answer)] += 1
        if answer.request.url.path in RECORDED and answer.headers["content-type"].startswith("application/json"):
            self.rows += _rows(answer)
        if answer.status_code == 200:
            self.ms.append(1e3 * answer.elapsed.total_seconds())

    def unanswered(self, error: httpx.HTTPError) -> None:
        """Count a connection that broke."""
        self.requests += 1
        self.statuses["no answer"] += 1
        self.broken[type(error).__name__] += 1

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.requests + other.requests,
            self.statuses + other.statuses,
            self.broken + other.broken,
            self.rows + other.rows,
            self.ms + other.ms,
            self.malformed + other.malformed,
        )

    @property
    def unplanned(self) -> int:
        """Failures: 5xx answers that don't say when to retry, and missing answers."""
        return sum(count for name, count in self.statuses.items() if name.startswith("5") or name == "no answer")


def _name(answer: httpx.Response) -> str:
    planned = answer.status_code == 503 and "retry-after" in answer.headers
    return "planned 503" if planned else str(answer.status_code)


def _rows(answer: httpx.Response) -> list[str]:
    """Return the ids of the rows that one answer leaves in the store."""
    body = answer.json()
    if answer.status_code == 200 and "predictions" in body:
        return [f"{body['request_id']}/{one['index']}" for one in body["predictions"]]
    return [body["request_id"]]


def scans() -> list[bytes]:
    """Return the four sample images of the service's page."""
    return [(SAMPLES / f"{name}.png").read_bytes() for name in CLASSES]


SCANS = scans()


def _post(path: str = "/predict", **content: Any) -> Ask:
    return lambda client, random: client.post(path, **content)


def _cut(client: httpx.Client, random: np.random.Generator) -> httpx.Response:
    scan = SCANS[random.integers(len(SCANS))]
    return client.post("/predict", files={"image": scan[: random.integers(1, len(scan) // 2)]})


WRONG: list[Ask] = [
    _post(files={"image": b"no image"}),
    _post(files={"image": b""}),
    _post(files={"picture": SCANS[0]}),
    _post(files={"image": SCANS[0]}, data={"model": "no such model"}),
    _post(json={"image": "http://127.0.0.1/scan.png"}),
    _post("/predict_batch", files=[("images", b"x")], data={"model": "no such model"}),
    _post("/nothing"),
    _cut,
]


def ask(client: httpx.Client, random: np.random.Generator) -> tuple[httpx.Response, bool]:
    """Send one request of the mixture; return the answer and whether the request was malformed."""
    kind = random.random()
    if kind < MALFORMED:
        return WRONG[random.integers(len(WRONG))](client, random), True
    scan = SCANS[random.integers(len(SCANS))]
    if kind < MALFORMED + EXPLAINED:
        return client.post("/predict", files={"image": scan}, data={"explain": "gradcam"}), False
    if kind < MALFORMED + EXPLAINED + BATCHED:
        return client.post("/predict_batch", files=[("images", scan)] * BATCH), False
    return client.post("/predict", files={"image": scan}), False


def client(address: str, seed: int, ended: threading.Event, tally: Callable[[], Tally]) -> None:
    """Send requests until `ended` is set. tally: returns where to count."""
    random = np.random.default_rng(seed)
    with httpx.Client(base_url=address, timeout=120) as connection:
        while not ended.is_set():
            try:
                answer, malformed = ask(connection, random)
            except httpx.HTTPError as error:
                tally().unanswered(error)
                continue
            tally().count(answer, malformed)
            if "retry-after" in answer.headers:
                ended.wait(float(answer.headers["retry-after"]))


class Load:
    """Clients that send requests from `start` to `stop`, counted in parts: `next_part` begins a new one."""

    def __init__(self, address: str, clients: int = CLIENTS):
        self._ended = threading.Event()
        self._parts = [[Tally() for _ in range(clients)]]
        self._threads = [
            threading.Thread(target=client, args=(address, seed, self._ended, partial(self._tally, seed)), daemon=True)
            for seed in range(clients)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def requests(self) -> int:
        """Return how many are over so far."""
        return sum(tally.requests for part in self._parts for tally in part)

    def next_part(self) -> None:
        self._parts.append([Tally() for _ in self._threads])

    def parts(self) -> list[Tally]:
        """Return the counts of each part; exact when the clients have stopped."""
        return [sum(part, Tally()) for part in self._parts]

    def stop(self) -> Tally:
        """Wait until every client has its last answer; return the counts of all parts together."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return sum(self.parts(), Tally())

    def _tally(self, client: int) -> Tally:
        return self._parts[-1][client]


def memory(service: Service) -> float:
    """Return the proportional set size of all the service's processes together, in MB."""
    total = 0
    for process in service.tree():
        with suppress(psutil.Error):  # it has just ended
            total += process.memory_full_info().pss
    return total / 1e6


def recorded(service: Service, rows: list[str], seconds: float = 30) -> dict[str, Any]:
    """Compare the store with the rows that it should hold, once it has had time to write them."""
    expected, until = Counter(rows), time.monotonic() + seconds
    while True:
        stored = Counter(row.request_id for row in service.store.select("request_id"))
        if stored == expected or time.monotonic() > until:
            break
        time.sleep(0.5)
    return {
        "expected": expected.total(),
        "rows": stored.total(),
        "missing": (expected - stored).total(),
        "unexpected": (stored - expected).total(),
        "counted_as_lost": service.store.lost(),
    }


def measure(service: Service, seconds: float, warm_up: float) -> dict[str, Any]:
    """Put the service under load and return the figures."""
    load = Load(service.address)
    load.start()
    time.sleep(warm_up)
    load.next_part()
    started, samples_mb = time.monotonic(), []
    while time.monotonic() - started < seconds:
        samples_mb.append(memory(service))
        time.sleep(min(1.0, seconds / 20))
    load.next_part()
    lasted = time.monotonic() - started
    rows = recorded(service, load.stop().rows)
    before, tally, after = load.parts()
    tenth = -(-len(samples_mb) // 10)
    first, last = statistics.median(samples_mb[:tenth]), statistics.median(samples_mb[-tenth:])
    return {
        "requests": tally.requests,
        "unplanned_5xx": tally.unplanned,
        "memory_growth": last / first - 1,
        "recorded_exactly_once": rows["missing"] == rows["unexpected"] == 0,
        "statuses": dict(sorted(tally.statuses.items())),
        "no_answer": dict(tally.broken),
        "malformed": tally.malformed,
        "rows_of_all_requests": rows,
        "outside": {
            "requests": before.requests + after.requests,
            "unplanned_5xx": before.unplanned + after.unplanned,
        },
        "memory_mb": {"after_warm_up": first, "at_the_end": last, "highest": max(samples_mb)},
        "seconds": lasted,
        "requests_per_s": tally.requests / lasted,
        "latency_ms": dict(zip(("p50", "p95", "p99"), np.percentile(tally.ms, (50, 95, 99)).tolist(), strict=True)),
    }


def main() -> None:
    parser = Parser("benchmarks.load", __doc__)
    parser.add_argument("--seconds", type=positive(float), default=SECONDS, help="of the load that counts")
    parser.add_argument("--warm-up", type=float, default=WARM_UP, help="seconds of load before")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), WORKERS) as service:
        figures = measure(service, arguments.seconds, arguments.warm_up)
    content = {
        **figures,
        "clients": CLIENTS,
        "workers": WORKERS,
        "warm_up_seconds": arguments.warm_up,
        "package": described(),
    }
    records.write("benchmarks.load", content, arguments.out)
    print(f"{figures['requests']} requests, {figures['unplanned_5xx']} failures")
    print(f"memory {figures['memory_growth']:+.1%}, recorded exactly once: {figures['recorded_exactly_once']}")


if __name__ == "__main__":
    guarded(main)
