"""Measure how accuracy falls as images get worse, in the ways in which MRI and its export to pictures go wrong.

Each corruption has five severities, from barely visible to beyond what a reader would accept; severity 0 is the image
itself. All are applied to images as the network sees them, so their size in pixels matters for blur, noise and JPEG. An
image gets the same noise, field and direction at every severity, so that only the severity changes along a curve.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from mri.base.intervals import estimate, resample_weights
from mri.data.phantom.fields import smooth_field
from mri.evaluation.scores import accuracy, balanced_accuracy

# Takes an image, float64 (S, S) on the scale 0..1, the strength and a generator; returns such an image.
Corrupt = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


class Corruption(NamedTuple):
    """A change to an image, and its strengths at severities 1 to 5, in the unit that the function's docstring names."""

    function: Corrupt
    strengths: tuple[float, float, float, float, float]


def corrupt(pixels: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """Return images, uint8 (N, S, S), under the corruption `name` (a key of CORRUPTIONS) at severity 0 to 5.

    The same arguments give the same images; each has its own random stream, by its place in `pixels`. Raises KeyError
    for an unknown name and ValueError for an unknown severity.
    """
    corruption = CORRUPTIONS[name]
    if not 0 <= severity <= len(corruption.strengths):
        raise ValueError(f"severity must be 0 to {len(corruption.strengths)}, got {severity}")
    if severity == 0:
        return pixels.copy()
    strength = corruption.strengths[severity - 1]
    corrupted = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        rng = np.random.default_rng((seed, i, *name.encode()))
        changed = corruption.function(image / 255, strength, rng)
        corrupted[i] = np.clip(np.rint(255 * changed), 0, 255)
    return corrupted


def curves(
    predict: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    corruptions: Sequence[str] = (),
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row per corruption and severity, 0 to 5: corruption, severity, accuracy, balanced_accuracy.

    Each score is followed by the limits of its 95 % interval (accuracy_low, accuracy_high, ...).
    predict: takes uint8 (N, S, S), returns logits or probabilities (N, C). labels: int (N,). groups: (N,), what is
    resampled together. corruptions: names, all by default. Predicts all images once per corruption and severity, and
    once more for severity 0, which is the same for all corruptions.
    """
    weights = np.concatenate([np.ones((1, len(labels))), resample_weights(groups, resamples, seed)])
    count = len(np.unique(np.asarray(groups)))
    clean = _scores(predict(pixels), labels, weights, count)
    rows = []
    for name in corruptions or CORRUPTIONS:
        rows.append({"corruption": name, "severity": 0, **clean})
        for severity in range(1, len(CORRUPTIONS[name].strengths) + 1):
            logits = predict(corrupt(pixels, name, severity, seed))
            rows.append({"corruption": name, "severity": severity, **_scores(logits, labels, weights, count)})
    return pd.DataFrame(rows)


def _scores(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, groups: int) -> dict[str, float]:
    """Return accuracy and balanced accuracy with their limits. groups: how many groups the images belong to."""
    predicted, classes = logits.argmax(1), logits.shape[1]
    scores = {
        "accuracy": accuracy(labels, predicted, classes, weights),
        "balanced_accuracy": balanced_accuracy(labels, predicted, classes, weights),
    }
    row: dict[str, float] = {}
    for name, values in scores.items():
        interval = estimate(float(values[0]), values[1:], groups=groups)
        row |= {name: interval["value"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}
    return row


def _noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add Rician noise: the magnitude of a complex signal with normal noise in both parts; sigma in shares of white."""
    real, imaginary = sigma * rng.standard_normal((2, *image.shape))
    return np.hypot(image + real, imaginary)


def _blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian, sigma as a share of the image's side."""
    return ndimage.gaussian_filter(image, sigma * len(image))


def _bias_field(image: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply by a smooth field that varies over half the side: exp of a normal field with this standard deviation."""
    position = np.linspace(0, 1, len(image))
    return image * np.exp(spread * smooth_field(rng, (np.zeros(1), position, position), 0.5)[0])


def _rotation(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Rotate by this angle about the centre, left or right; uncovered corners are black."""
    return ndimage.rotate(image, rng.choice([-1, 1]) * degrees, reshape=False, order=1)


def _jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Save as JPEG of this quality (libjpeg's 1 to 95) and read again."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * image).astype(np.uint8)).save(file, format="JPEG", quality=int(quality))
    return np.asarray(Image.open(file)) / 255


def _contrast(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink every pixel's distance from the mean grey level to this share."""
    return image.mean() + share * (image - image.mean())


def _gamma(image: np.ndarray, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Raise to the power of the exponent, which darkens, or of its inverse, which brightens."""
    return image ** (exponent ** rng.choice([-1, 1]))


CORRUPTIONS = {
    "noise": Corruption(_noise, (0.02, 0.05, 0.1, 0.15, 0.2)),
    "blur": Corruption(_blur, (0.006, 0.01, 0.015, 0.022, 0.03)),
    "bias_field": Corruption(_bias_field, (0.1, 0.2, 0.35, 0.5, 0.7)),
    "rotation": Corruption(_rotation, (5, 10, 20, 30, 45)),
    "jpeg": Corruption(_jpeg, (70, 40, 20, 10, 5)),
    "contrast": Corruption(_contrast, (0.8, 0.6, 0.4, 0.25, 0.15)),
    "gamma": Corruption(_gamma, (1.2, 1.5, 2.0, 2.5, 3.5)),
}
