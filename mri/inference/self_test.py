"""Check that a packaged network answers on this processor as it did where it was packaged.

A processor may lack instructions that a precision relies on, and a library may compute wrongly on it; the answers are
plausible all the same. So a network's folder holds a few images, drawn and of no patient, with the logits that it gave
for them. A network that answers differently runs in fp32 instead; if that differs too, it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from mri.base.errors import UserError
from mri.inference.runtime import PRECISIONS, Precision, Runtime, read_card, served_precision, softmax

FILE = "self_test.safetensors"
# How far a probability may be off. The same precision differs between processors by rounding alone: in fp32 by some
# 1e-5, in bf16 and int8, which have two to three digits, by some hundredths.
TOLERANCE: dict[Precision, float] = {"fp32": 0.01, "bf16": 0.1, "int8": 0.1}


class RefusedModelError(UserError):
    """A network fails its self-test in every precision, so it must not answer."""


@dataclass(frozen=True)
class SelfTest:
    """The outcome of a network's self-test. off: how far a probability was off, by precision in the order tried."""

    off: dict[Precision, float]

    @property
    def served(self) -> Precision | None:
        """The precision that passed, which serves; None where none did."""
        return next((name for name, off in self.off.items() if off <= TOLERANCE[name]), None)

    @property
    def detail(self) -> str:
        """The outcome in words."""
        failed = [
            f"in {name} a probability is off by {off:.2g} ({TOLERANCE[name]:g} is allowed)"
            for name, off in self.off.items()
            if not off <= TOLERANCE[name]
        ]
        if not failed:
            return "passed"
        outcome = f"runs in {self.served} instead" if self.served else "refused"
        return f"{outcome}: on this processor, {' and '.join(failed)}"


def write(folder: Path, pixels: np.ndarray) -> None:
    """Store images, uint8 (N, size, size), and the logits that an exported network gives for them."""
    logits: dict[str, np.ndarray] = {name: Runtime(folder, name)(pixels)[0] for name in _tried(folder)}
    safetensors.numpy.save_file({"pixels": pixels, **logits}, folder / FILE)


def load(folder: Path, temperature: float, shared: bool = False, threads: int = 0) -> tuple[Runtime, SelfTest]:
    """Load a network in the first precision that passes its self-test: the one on its card, or fp32.

    Raises RefusedModelError where none passes, and UserError for a missing or damaged file.
    """
    try:
        stored = safetensors.numpy.load_file(folder / FILE)
        expected = {name: stored[name] for name in _tried(folder)}
        pixels = stored["pixels"]
    except (OSError, safetensors.SafetensorError, KeyError):
        raise UserError(f"{folder / FILE} is missing or damaged: run `dvc repro package`") from None
    off: dict[Precision, float] = {}
    for name in expected:
        runtime = Runtime(folder, name, threads, shared)
        changed = softmax(runtime(pixels)[0], temperature) - softmax(expected[name], temperature)
        off[name] = float(np.nan_to_num(np.abs(changed), nan=1.0).max())
        outcome = SelfTest(off)
        if outcome.served:
            return runtime, outcome
    raise RefusedModelError(f"{folder.name} is {outcome.detail}")


def _tried(folder: Path) -> list[Precision]:
    """Return the precisions to try, in order: a folder may lack the graph of fp32."""
    tried: list[Precision] = [served_precision(read_card(folder))]
    if "fp32" not in tried and (folder / PRECISIONS["fp32"][0]).is_file():
        tried.append("fp32")
    return tried
