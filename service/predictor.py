"""From the bytes of a file to an answer: reading, the network, the explanations, and the time that each takes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri.base.paths import SERVICE
from mri.data import images
from mri.inference.package import Opinion, Package, Reason
from service.explainer import Explained, Explainer


@dataclass(frozen=True)
class Prediction:
    """What one network says of one image, and where it looked.

    reasons: the opinion's own, and those that asking all networks brought up. width, height: pixels as decoded.
    pixels: uint8 (S, S), what the network saw. milliseconds: by part.
    """

    opinion: Opinion
    reasons: list[Reason]
    width: int
    height: int
    pixels: np.ndarray
    explanations: dict[str, Explained] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)


class Predictor:
    """Answers with the networks of artifacts/service (or $MRI_SERVICE). Safe to call from several threads.

    Requests are not merged into batches: calls at the same time share the cores, and an answer of a merged batch would
    wait for others, and depend on them in its last digits.
    """

    def __init__(self, folder: Path | None = None):
        self.package = Package(folder or Path(os.environ.get("MRI_SERVICE") or SERVICE), shared=True)
        self.about = self.package.about
        self.explainer = Explainer(self.package)

    def predict(self, data: bytes, name: str = "image", model: str = "", explain: Sequence[str] = ()) -> Prediction:
        """Classify and explain the bytes of an image file. Raises ImageError, UnknownModelError, UnknownMethodError."""
        clock = Clock()
        network = self.package.network(model)
        methods = self.explainer.check(list(explain))
        clock.lap("network")
        scan = images.read(data, name)
        pixels = images.prepare(scan, network.size)
        clock.lap("read")
        (opinion,) = network.opinions(pixels[None])
        clock.lap("network")
        explained = self.explainer.explain(network, opinion, scan, pixels, methods)
        clock.lap("explain")
        height, width = scan.shape
        reasons = [*opinion.reasons, *explained.reasons]
        return Prediction(opinion, reasons, width, height, pixels, explained.by_method, clock.milliseconds)

    def predict_batch(
        self, files: Sequence[tuple[bytes, str]], model: str = ""
    ) -> tuple[list[Prediction | images.ImageError], dict[str, float]]:
        """Classify several files together: predictions, or what is wrong with a file, in their order; milliseconds.

        files: the bytes of each and what messages call it. Raises UnknownModelError.
        """
        clock = Clock()
        network = self.package.network(model)
        clock.lap("network")
        read = [_read(data, name, network.size) for data, name in files]
        clock.lap("read")
        good = [found for found in read if not isinstance(found, images.ImageError)]
        opinions = iter(network.opinions(np.stack([pixels for pixels, _ in good]), features=False) if good else [])
        clock.lap("network")
        answers = [found if isinstance(found, images.ImageError) else _told(next(opinions), *found) for found in read]
        return answers, clock.milliseconds


def _read(data: bytes, name: str, size: int) -> tuple[np.ndarray, tuple[int, int]] | images.ImageError:
    """What a network sees of a file, uint8 (size, size), and the image's height and width; or why it can't."""
    try:
        scan = images.read(data, name)
    except images.ImageError as error:
        return error
    return images.prepare(scan, size), (scan.shape[0], scan.shape[1])


def _told(opinion: Opinion, pixels: np.ndarray, shape: tuple[int, int]) -> Prediction:
    return Prediction(opinion, opinion.reasons, shape[1], shape[0], pixels)


class Clock:
    """Milliseconds of consecutive parts, added up in a dictionary: one of its own, or one to go on with."""

    def __init__(self, milliseconds: dict[str, float] | None = None) -> None:
        self.milliseconds = {} if milliseconds is None else milliseconds
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.milliseconds[part] = self.milliseconds.get(part, 0.0) + (now - self._last) * 1e3
        self._last = now
