"""The packaged networks, loaded when they are first asked for, and what they say of one image."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mri import images
from mri.errors import UserError
from mri.files import read_json
from mri.paths import SERVICE
from mri.runtime import Runtime, softmax

SERVED_PRECISION = "fp32"


class UnknownModelError(UserError):
    """The request names a network that isn't packaged."""


@dataclass(frozen=True)
class Prediction:
    """What one network says of one image. probabilities are calibrated and in the order of the classes."""

    model: str
    probabilities: dict[str, float]
    milliseconds: dict[str, float]

    @property
    def label(self) -> str:
        return max(self.probabilities, key=lambda name: self.probabilities[name])


class Predictor:
    """Reads artifacts/service (or $MRI_SERVICE); loads the winner at once and the others when they are asked for."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or Path(os.environ.get("MRI_SERVICE") or SERVICE)
        try:
            self.about: dict[str, Any] = read_json(self.folder / "service.json")
        except (OSError, ValueError):
            raise UserError(f"{self.folder} holds no packaged model: run `make repro` (or `dvc pull`) first") from None
        self._runtimes: dict[str, Runtime] = {}
        self._lock = threading.Lock()
        self.runtime(self.about["winner"])

    def runtime(self, name: str) -> Runtime:
        if name not in self.about["models"]:
            raise UnknownModelError(f"unknown model {name!r}: choose from {', '.join(self.about['models'])}")
        with self._lock:
            if name not in self._runtimes:
                self._runtimes[name] = Runtime(self.folder / "models" / name, SERVED_PRECISION)
            return self._runtimes[name]

    def predict(self, data: bytes, file_name: str = "image", model: str = "") -> Prediction:
        """Classify the bytes of an image file. Raises ImageError for what can't be read, UnknownModelError."""
        runtime = self.runtime(model or self.about["winner"])
        started = time.perf_counter()
        pixels = images.prepare(images.read(data, file_name), runtime.size)
        prepared = time.perf_counter()
        logits, _ = runtime(pixels[None])
        done = time.perf_counter()
        probabilities = softmax(logits, runtime.card["temperature"])[0]
        return Prediction(
            model or self.about["winner"],
            dict(zip(runtime.classes, probabilities.tolist(), strict=True)),
            {"prepare": (prepared - started) * 1e3, "network": (done - prepared) * 1e3},
        )
