"""Shift the test images in the ways that drift monitoring should notice: image quality, the mix of classes, sources."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mri.data.dataset import Part
from mri.evaluation.corruptions import corrupt

# Corruptions of `mri.evaluation.corruptions` with their severities, applied one after the other.
QUALITY = {
    "contrast_mild": {"contrast": 1},
    "contrast": {"contrast": 3},
    "noise_mild": {"noise": 1},
    "noise": {"noise": 3},
    "another_scanner": {"bias_field": 3, "blur": 2, "gamma": 2},
}
SHARE_OF_ONE_CLASS = 0.7


def shifts(test: Part, seed: int) -> Iterator[tuple[str, Part]]:
    """Yield the test images by the name of the shift: "nothing" first, then after each shift alone."""
    yield "nothing", test
    for name, corruptions in QUALITY.items():
        pixels = test.pixels
        for corruption, severity in corruptions.items():
            pixels = corrupt(pixels, corruption, severity, seed)
        yield name, Part(test.index, pixels, test.labels)
    yield "class_mix", _mostly_one_class(test)
    sources = test.index["source"].to_numpy()
    for source in np.unique(sources) if len(np.unique(sources)) > 1 else ():
        yield f"source_{source}", _rows(test, np.flatnonzero(sources == source))


def _mostly_one_class(part: Part) -> Part:
    """Keep all images of the first class, and so few others that its share is SHARE_OF_ONE_CLASS."""
    first = part.labels == 0
    others = np.flatnonzero(~first)[:: max(1, round((~first).sum() / (first.sum() * (1 / SHARE_OF_ONE_CLASS - 1))))]
    return _rows(part, np.sort(np.concatenate([np.flatnonzero(first), others])))


def _rows(part: Part, rows: np.ndarray) -> Part:
    return Part(part.index.iloc[rows], part.pixels[rows], part.labels[rows])
