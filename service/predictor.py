"""From the bytes of a file to a prediction with its explanations, and the time that each part takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri.data import images
from mri.inference.package import Opinion, Package, Reason
from service.explainer import Explainer, ExplanationMap


@dataclass(frozen=True)
class ImageResult:
    """What one network says of one image, with its explanations.

    reasons: to abstain; those of the opinion, and those from asking all networks. width, height: in pixels, as decoded.
    pixels: uint8 (S, S), the network's input. milliseconds: time by part.
    """

    opinion: Opinion
    reasons: list[Reason]
    width: int
    height: int
    pixels: np.ndarray
    explanations: dict[str, ExplanationMap] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)


class Predictor:
    """Classify and explain image files with the networks of a package. Safe to call from several threads.

    Requests are not merged into batches: in a merged batch an answer would wait for others, and its last digits would
    depend on them. Calls at the same time share the cores instead.
    """

    def __init__(self, folder: Path):
        self.package = Package(folder, shared=True)
        self.about = self.package.about
        self.explainer = Explainer(self.package)

    def predict(self, data: bytes, name: str = "image", model: str = "", explain: Sequence[str] = ()) -> ImageResult:
        """Classify and explain the bytes of an image file. Raises ImageError, UnknownModelError, BadRequestError."""
        clock = Clock()
        network = self.package.network(model)
        methods = self.explainer.check(list(explain))
        clock.lap("network")
        scan = images.read(data, name)
        pixels = images.prepare(scan, network.size)
        clock.lap("read")
        (opinion,) = network.opinions(pixels[None])
        clock.lap("network")
        explanations = self.explainer.explain(network, opinion, scan, pixels, methods)
        clock.lap("explain")
        height, width = scan.shape
        reasons = [*opinion.reasons, *explanations.reasons]
        return ImageResult(opinion, reasons, width, height, pixels, explanations.by_method, clock.milliseconds)

    def predict_batch(
        self, files: Sequence[tuple[bytes, str]], model: str = ""
    ) -> tuple[list[ImageResult | images.ImageError], dict[str, float]]:
        """Classify several files together. Return a result or an error for each, in order, and milliseconds by part.

        files: the bytes of each, and its name in messages. Raises UnknownModelError.
        """
        clock = Clock()
        network = self.package.network(model)
        clock.lap("network")
        inputs = [_read(data, name, network.size) for data, name in files]
        clock.lap("read")
        readable = [pixels for pixels, _ in (each for each in inputs if not isinstance(each, images.ImageError))]
        opinions = iter(network.opinions(np.stack(readable), features=False) if readable else [])
        clock.lap("network")
        results: list[ImageResult | images.ImageError] = []
        for each in inputs:
            if isinstance(each, images.ImageError):
                results.append(each)
            else:
                pixels, (height, width) = each
                opinion = next(opinions)
                results.append(ImageResult(opinion, opinion.reasons, width, height, pixels))
        return results, clock.milliseconds


def _read(data: bytes, name: str, size: int) -> tuple[np.ndarray, tuple[int, int]] | images.ImageError:
    """Return a network's input, uint8 (size, size), with the image's height and width; or why it can't be read."""
    try:
        scan = images.read(data, name)
    except images.ImageError as error:
        return error
    return images.prepare(scan, size), (scan.shape[0], scan.shape[1])


class Clock:
    """Add up the milliseconds of consecutive parts, in a new dictionary or in one to be continued."""

    def __init__(self, milliseconds: dict[str, float] | None = None) -> None:
        self.milliseconds = {} if milliseconds is None else milliseconds
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to a part."""
        now = time.perf_counter()
        self.milliseconds[part] = self.milliseconds.get(part, 0.0) + (now - self._last) * 1e3
        self._last = now
