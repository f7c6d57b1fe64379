"""From the bytes of a file to a prediction with its explanations, and the time that each part takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mri.data import images
from mri.data.images.series import file_of
from mri.inference.package import Opinion, Package, Reason, in_words
from mri.inference.series import Pooling, judge
from service.explainer import Explainer, ExplanationMap, gradcam

Input = tuple[np.ndarray, tuple[int, int], np.ndarray | None]


@dataclass(frozen=True)
class ImageResult:
    """What one network says of one image, with its explanations.

    reasons: to abstain; those of the opinion, and those from asking all networks. width, height: in pixels, as decoded.
    pixels: uint8 (S, S), the network's input. milliseconds: time by part. shadow_pixels: the shadow's input, uint8
    (T, T); None without a shadow.
    """

    opinion: Opinion
    reasons: list[Reason]
    width: int
    height: int
    pixels: np.ndarray
    explanations: dict[str, ExplanationMap] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    shadow_pixels: np.ndarray | None = None


@dataclass(frozen=True)
class SeriesResult:
    """What one network says of a series.

    verdict: as of one image: the key slice with the pooled probabilities. opinions: of the slices. pixels: uint8
    (N, S, S), the network's inputs. maps: float32 (S, S) for each, Grad-CAM of the verdict's class, where asked for.
    key: the slices that speak most for the verdict. fitted: whether the pooling was fitted.
    """

    series: images.Series
    verdict: ImageResult
    opinions: list[Opinion]
    pixels: np.ndarray
    maps: list[np.ndarray] | None
    key: list[int]
    fitted: bool


class Predictor:
    """Classify and explain image files with the networks of a package. Safe to call from several threads.

    Requests are not merged into batches: in a merged batch an answer would wait for others, and its last digits would
    depend on them. Calls at the same time share the cores instead.
    """

    def __init__(self, folder: Path):
        self.package = Package(folder, shared=True)
        self.about = self.package.about
        self.explainer = Explainer(self.package)
        # Side of a shadow's input (`service.monitoring.shadow`).
        self.shadow_size: int | None = None

    def predict(
        self, data: bytes, name: str = "image", model: str = "", explain: Sequence[str] = (), target: str = ""
    ) -> ImageResult:
        """Classify and explain the bytes of an image file. Raises ImageError, UnknownModelError, BadRequestError.

        target: the class that maps explain; "" for that of the answer.
        """
        clock = Clock()
        network = self.package.network(model)
        methods = self.explainer.check(list(explain), target)
        clock.lap("network")
        scan = images.read(data, name)
        pixels = images.prepare(scan, network.size)
        clock.lap("read")
        (opinion,) = network.opinions(pixels[None])
        clock.lap("network")
        explanations = self.explainer.explain(network, opinion, scan, pixels, methods, target)
        clock.lap("explain")
        height, width = scan.shape
        reasons = [*opinion.reasons, *explanations.reasons]
        shadow_pixels = self._shadow_pixels(scan, pixels)
        return ImageResult(
            opinion, reasons, width, height, pixels, explanations.by_method, clock.milliseconds, shadow_pixels
        )

    def predict_batch(
        self, files: Sequence[tuple[bytes, str]], model: str = ""
    ) -> tuple[list[ImageResult | images.ImageError], dict[str, float]]:
        """Classify several files together. Return a result or an error for each, in order, and milliseconds by part.

        files: the bytes of each, and its name in messages. Raises UnknownModelError.
        """
        clock = Clock()
        network = self.package.network(model)
        clock.lap("network")
        inputs = [self._read(data, name, network.size) for data, name in files]
        clock.lap("read")
        readable = [pixels for pixels, *_ in (each for each in inputs if not isinstance(each, images.ImageError))]
        opinions = iter(network.opinions(np.stack(readable), features=False) if readable else [])
        clock.lap("network")
        results: list[ImageResult | images.ImageError] = []
        for each in inputs:
            if isinstance(each, images.ImageError):
                results.append(each)
            else:
                pixels, (height, width), shadow_pixels = each
                opinion = next(opinions)
                result = ImageResult(opinion, opinion.reasons, width, height, pixels, shadow_pixels=shadow_pixels)
                results.append(result)
        return results, clock.milliseconds

    def predict_series(self, files: Sequence[tuple[bytes, str]], model: str = "", maps: bool = False) -> SeriesResult:
        """Classify the slices of one series together, and the series. Raises ImageError, UnknownModelError.

        files: the bytes of each, and its name in messages.
        """
        clock = Clock()
        network = self.package.network(model)
        clock.lap("network")
        series = _read_series(files)
        pixels = np.stack([images.prepare(one.pixels, network.size) for one in series.slices])
        clock.lap("read")
        with_maps = maps and "gradcam" in self.explainer.methods
        opinions = network.opinions(pixels, features=with_maps)
        clock.lap("network")
        pooling = network.card.get("pooling")
        probabilities = np.array([list(one.probabilities.values()) for one in opinions])
        judged = judge(probabilities, network.classes, Pooling(**pooling) if pooling else Pooling())
        first = judged.key[0]
        pooled = replace(
            opinions[first], probabilities=dict(zip(network.classes, judged.probabilities.tolist(), strict=True))
        )
        reasons = [*opinions[first].reasons, *_outvoted(pooled, opinions[first])]
        target = network.classes.index(pooled.label)
        drawn = [gradcam(network, one, target, network.size) for one in opinions] if with_maps else None
        clock.lap("explain")
        height, width = series.slices[first].pixels.shape
        verdict = ImageResult(pooled, reasons, width, height, pixels[first], milliseconds=clock.milliseconds)
        return SeriesResult(series, verdict, opinions, pixels, drawn, judged.key, pooling is not None)

    def _read(self, data: bytes, name: str, size: int) -> Input | images.ImageError:
        """Return a network's input, the image's height and width, and the shadow's input; or why it can't be read."""
        try:
            scan = images.read(data, name)
        except images.ImageError as error:
            return error
        pixels = images.prepare(scan, size)
        return pixels, (scan.shape[0], scan.shape[1]), self._shadow_pixels(scan, pixels)

    def _shadow_pixels(self, scan: np.ndarray, pixels: np.ndarray) -> np.ndarray | None:
        """Return the shadow's input; None without a shadow. Its own size costs a resize, the same size nothing."""
        if self.shadow_size in (None, len(pixels)):
            return None if self.shadow_size is None else pixels
        return images.prepare(scan, self.shadow_size)


def _outvoted(verdict: Opinion, key: Opinion) -> list[Reason]:
    """Return a reason to abstain where even the slice that speaks most for the verdict names another class."""
    if verdict.label == key.label:
        return []
    detail = f"The slice that speaks most for {in_words(verdict.label)} names {in_words(key.label)}."
    return [Reason("low_confidence", detail)]


def _read_series(files: Sequence[tuple[bytes, str]]) -> images.Series:
    """Return the slices of a series, of one file or several. Raises ImageError."""
    parts = [file_of(data, name) for data, name in files]
    contents = images.look(parts)
    if contents.stacks or len(contents.images) < 2:
        return images.read_series(parts, "image")
    slices = [images.read_slice(file.data(), file.name) for file in contents.images]
    left_out = [*contents.damaged, *contents.left_out]
    note = "pictures don't tell where they lie: they stand in the order in which they were sent"
    return images.Series("image", slices, left_out, (note,))


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
