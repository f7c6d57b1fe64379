"""Look for requests and files that the service can't deal with: python -m tests.fuzz (`make fuzz`)

- The reader (`mri.data.images`): sound files and series of every kind, damaged again and again, must give pixels that
  `prepare` takes or an ImageError of one line in words, not in Python's or HTML's, within bounds of time and memory.
- The API: schemathesis makes requests out of the OpenAPI schema, right and wrong ones, for a running service: no
  answer 5xx, none but what the schema says. Fields for files get files of the same corpus, sound or damaged.

Exit code 1 with the example when something is found. The corpus is made by code (`tests.imagefiles`).
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from benchmarks.local_service import ROOT, Service, served
from mri.base.cli import Parser, guarded
from mri.data import images
from tests import packages
from tests.imagefiles import containers, sound

CORPUS = sound() | containers()
# What gives away that a message is a library's own, or is made of the file's bytes.
FOREIGN = re.compile(r"Traceback|Error\b|Exception|object at 0x|<[a-z/!]|NoneType|numpy|dtype|errno|buffer", re.I)
# Beyond what any file of a few kilobytes has to cost.
CPU_SECONDS, MEMORY_BYTES = 20.0, 2_000_000_000
EXAMPLES = 500  # between two looks at the clock
NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
# What the service may answer although the schema can't say so: contents of files and names of models decide.
# A number in place of a file is, in a form, a file with digits in it: a batch answers 200 with that file's error.
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = [200, 204, 400, 404, 415, 422, 503]

[[operations]]
include-path = "/predict_batch"
checks.negative_data_rejection.enabled = false
"""


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a file of the corpus, intact or with bytes changed, numbers replaced, parts removed, doubled or swapped."""
    data = bytearray(CORPUS[draw(st.sampled_from(sorted(CORPUS)))])
    for _ in range(draw(st.integers(0, 6))):
        DAMAGES[draw(st.sampled_from(sorted(DAMAGES)))](draw, data)
    return bytes(data)


def _place(draw: st.DrawFn, data: bytearray) -> int:
    """Draw a position in a file; half of them in the header, where most can go wrong."""
    most = max(0, len(data) - 1)
    return draw(st.one_of(st.integers(0, min(400, most)), st.integers(0, most)))


def _change(draw: st.DrawFn, data: bytearray) -> None:
    if data:
        data[_place(draw, data)] = draw(st.integers(0, 255))


def _number(draw: st.DrawFn, data: bytearray) -> None:
    size, order = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from(["little", "big"]))
    value = draw(st.one_of(st.sampled_from(NUMBERS), st.integers(0, 2**32 - 1))) % 256**size
    at = _place(draw, data)
    data[at : at + size] = value.to_bytes(size, order)


def _cut(draw: st.DrawFn, data: bytearray) -> None:
    at = _place(draw, data)
    del data[at : at + draw(st.one_of(st.integers(1, 16), st.integers(1, len(data) + 1)))]


def _double(draw: st.DrawFn, data: bytearray) -> None:
    at = _place(draw, data)
    data[at:at] = data[at : at + draw(st.integers(1, 200))]


def _splice(draw: st.DrawFn, data: bytearray) -> None:
    other = CORPUS[draw(st.sampled_from(sorted(CORPUS)))]
    data[_place(draw, data) :] = other[draw(st.integers(0, len(other) - 1)) :]


def _text(draw: st.DrawFn, data: bytearray) -> None:
    at = _place(draw, data)
    data[at:at] = draw(st.binary(min_size=1, max_size=40))


DAMAGES = {"change": _change, "number": _number, "cut": _cut, "double": _double, "splice": _splice, "text": _text}


def check_reading(data: bytes, name: str = "image") -> None:
    """Raise AssertionError unless these bytes are read and prepared, or refused, within time and memory limits."""
    before, started = _peak(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check_answer(lambda: [images.read(data, name)], name)
        _check_answer(lambda: [one.pixels for one in images.read_series(data, name).slices], name)
    seconds = time.process_time() - started
    assert seconds < CPU_SECONDS, f"{seconds:.0f} s for {len(data)} bytes"
    assert _peak() - before < MEMORY_BYTES, f"{(_peak() - before) / 1e6:.0f} MB for {len(data)} bytes"


def _check_answer(read: Callable[[], list[np.ndarray]], name: str) -> None:
    """Raise AssertionError unless `read` gives pictures or a reason in words."""
    try:
        pictures = read()
    except images.ImageError as error:
        assert "\n" not in str(error) and str(error).startswith(name), str(error)
        assert not FOREIGN.search(str(error)), str(error)
        return
    for pixels in pictures:
        assert pixels.dtype == np.uint8 and pixels.ndim == 2, f"{pixels.dtype} {pixels.shape}"
        assert images.prepare(pixels, 32).shape == (32, 32)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fuzz_reader(seconds: float, first_seed: int) -> int:
    """Read damaged files for that many seconds; return their number. Raise what the first unhandled one raises."""
    count, until, number = 0, time.monotonic() + seconds, first_seed
    while time.monotonic() < until:

        @seed(number)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(damaged(), st.sampled_from(["image", "image.dcm"]))
        def examples(data: bytes, name: str) -> None:
            nonlocal count
            if time.monotonic() < until:
                count += 1
                check_reading(data, name)

        examples()
        number += 1
    return count


def fuzz_api(service: Service, seconds: float, number: int) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against a running service for that many seconds."""
    configuration = service.folder / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)]
    command += ["run", f"{service.address}/docs.json", "--max-time", str(max(1, int(seconds))), "--seed", str(number)]
    command += ["--warnings", "off", "--request-timeout", "60", "--no-color"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz_hooks", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=service.folder, env=environment, capture_output=True, text=True, check=False)


def main() -> int:
    parser = Parser("tests.fuzz", __doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for the reader, and again for the API")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10**6, help="repeat a run by its seed")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    try:
        count = fuzz_reader(arguments.seconds, arguments.seed)
    except (Exception, Flaky):
        traceback.print_exc()
        return 1
    print(f"reader: {count} files, nothing found", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packages.package(folder / "package")
        with served(folder, package=folder / "package") as service:
            done = fuzz_api(service, arguments.seconds, arguments.seed)
    print(done.stdout, done.stderr, sep="\n")
    return min(1, done.returncode)


if __name__ == "__main__":
    guarded(lambda: sys.exit(main()))
