"""Detect drift: whether a network still sees images like those it was validated on, without labels.

Four signals of a window of predictions are compared with a reference: the mix of predicted classes (chi-square), the
confidence and simple image statistics (Kolmogorov-Smirnov), and the network's features in a few random directions
(energy distance: Szekely & Rizzo, J. Stat. Plan. Inference 143, 2013). When nothing has changed, a signal exceeds its
threshold in one window in twenty: thresholds come from splitting the reference itself at random, whole patients at a
time, because slices of one patient are alike: five slices of each of thirteen patients tell as much about the mix of
classes as thirteen images would. An alarm takes two consecutive windows, which rarely are both out of the ordinary;
`replay` measures how rarely.

Nothing here can be turned back into an image: what is kept of one is four statistics and sixteen projected numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from mri.base.errors import UserError
from mri.inference.gate import pool
from mri.inference.runtime import Runtime, softmax

SIGNALS = ("classes", "confidence", "image", "features")
STATISTICS = ("mean", "deviation", "foreground", "sharpness")

DIRECTIONS = 16
# Predictions in a window: enough to see a relevant shift, few enough to see it soon. Never more than this share of the
# reference, so that a random split leaves enough of it to compare with.
WINDOW, LARGEST_SHARE = 100, 0.25
# How often a signal of one window may exceed its threshold when nothing has changed. On phantoms this raises a false
# alarm in 2 % of pairs of windows; 0.01 raised none, but noticed a class that trebles in 8 % of pairs instead of 56 %.
RATE = 0.05
SPLITS = 1999
# Share of white above which a pixel of a prepared image is foreground.
FOREGROUND = 0.12


@dataclass(frozen=True)
class Observations:
    """What is recorded of N predictions.

    labels: int64 (N,), predicted classes. confidence: float32 (N,), their probabilities. statistics: float32 (N, 4),
    see `image_statistics`. projection: float32 (N, P), see `project`.
    """

    labels: np.ndarray
    confidence: np.ndarray
    statistics: np.ndarray
    projection: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray | slice) -> Observations:
        return Observations(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __add__(self, other: Observations) -> Observations:
        both = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Observations(*(np.concatenate(pair) for pair in both))


@dataclass(frozen=True)
class Reference:
    """What later windows are compared with.

    about: names the network and its data. observed: on the reference images. directions: float32 (D, P). window: the
    number of predictions compared at a time. thresholds: for each signal, the statistic that a window exceeds with
    probability RATE when nothing has changed.
    """

    about: dict[str, str]
    observed: Observations
    directions: np.ndarray
    window: int
    thresholds: dict[str, float]

    def project(self, features: np.ndarray) -> np.ndarray:
        """Return pooled features (N, D) along the random directions, float32 (N, P)."""
        return project(features, self.directions)

    def strengths(self, window: Observations) -> dict[str, float]:
        """Return each signal of a window in units of its threshold; above 1 it is out of the ordinary.

        Raises ValueError unless the window has the size that the thresholds are for.
        """
        if len(window) != self.window:
            raise ValueError(f"a window has {self.window} predictions, not {len(window)}")
        inside = np.arange(len(window) + len(self.observed)) < len(window)
        signals = _signals(window + self.observed, inside[None])
        return {name: float(signals[name][0] / max(self.thresholds[name], 1e-12)) for name in SIGNALS}

    def save(self, path: Path) -> None:
        """Write the reference as safetensors: about 100 bytes an image and 64 bytes a feature."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {part.name: np.ascontiguousarray(getattr(self.observed, part.name)) for part in fields(self.observed)}
        arrays |= {"directions": self.directions, "window": np.array([self.window])}
        arrays["thresholds"] = np.array([self.thresholds[name] for name in SIGNALS])
        safetensors.numpy.save_file(arrays, path, metadata=self.about)

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Load what `save` wrote, without unpickling. Raises UserError when the file is missing or damaged."""
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc repro` (or `dvc pull`) first")
        try:
            with safetensors.safe_open(path, "numpy") as stored:
                about = stored.metadata() or {}
                arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
            observed = Observations(*(arrays[field.name] for field in fields(Observations)))
            thresholds = dict(zip(SIGNALS, arrays["thresholds"].tolist(), strict=True))
            return cls(about, observed, arrays["directions"], int(arrays["window"][0]), thresholds)
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path} is damaged: run `dvc checkout --force`") from error


def observe(
    runtime: Runtime, temperature: float, pixels: np.ndarray, directions: np.ndarray | None = None
) -> tuple[Observations, np.ndarray]:
    """Return what a service would record of prepared images, uint8 (N, S, S), and their pooled features (N, D).

    directions: float32 (D, P), or None for an empty projection.
    """
    logits, maps = zip(*runtime.in_batches(pixels), strict=True)
    probabilities = np.concatenate([softmax(part, temperature) for part in logits])
    features = np.concatenate([pool(part) for part in maps])
    projection = features[:, :0] if directions is None else project(features, directions)
    confidence = probabilities.max(1).astype(np.float32)
    return Observations(probabilities.argmax(1), confidence, image_statistics(pixels), projection), features


def image_statistics(pixels: np.ndarray) -> np.ndarray:
    """Return statistics of prepared images, uint8 (N, S, S), in the order of STATISTICS, float32 (N, 4).

    Mean and standard deviation in shares of white; share of the pixels above FOREGROUND; logarithm of the variance of
    the Laplacian, which noise raises and blur lowers.
    """
    grey = pixels.astype(np.float32) / 255
    inner = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    sharpness = np.log((around - 4 * inner).var((1, 2)) + 1e-8)
    columns = (grey.mean((1, 2)), grey.std((1, 2)), (grey > FOREGROUND).mean((1, 2)), sharpness)
    return np.stack(columns, axis=1).astype(np.float32)


def random_directions(features: np.ndarray, seed: int, count: int = DIRECTIONS) -> np.ndarray:
    """Draw random directions, float32 (D, P), scaled so that these pooled features (N, D) vary by about 1."""
    directions = np.random.default_rng(seed).standard_normal((features.shape[1], count)).astype(np.float32)
    spread = project(features, directions).std(0)
    return directions / np.maximum(spread, 1e-6)


def project(features: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Project pooled features (N, D), scaled to length 1, on directions (D, P); float32 (N, P)."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32) @ directions


def fit(
    observed: Observations,
    groups: Sequence | np.ndarray,
    directions: np.ndarray,
    about: dict[str, str],
    seed: int = 0,
    window: int | None = None,
    splits: int = SPLITS,
) -> Reference:
    """Return the reference of N observations, with thresholds from random splits that keep groups (N,) together.

    window: WINDOW by default, or a quarter of the images where there are fewer than four times as many.
    """
    window = window or default_window(len(observed))
    inside = random_windows(groups, window, splits, seed)
    null = _signals(observed, inside)
    thresholds = {name: float(np.quantile(null[name], 1 - RATE, method="higher")) for name in SIGNALS}
    return Reference(about, observed, directions, window, thresholds)


def default_window(count: int) -> int:
    """Return how many predictions a window has for a reference of `count` images."""
    return max(1, min(WINDOW, int(LARGEST_SHARE * count)))


def random_windows(groups: Sequence | np.ndarray, size: int, count: int, seed: int) -> np.ndarray:
    """Draw windows of `size` of N images, bool (count, N): whole groups (N,) at random until the window is full."""
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    inside = np.zeros((count, len(member)), bool)
    for row in inside:
        rank = rng.permutation(member.max() + 1)[member]
        row[np.lexsort((rng.random(len(member)), rank))[:size]] = True
    return inside


def alarms(strengths: Sequence[dict[str, float]]) -> list[list[str]]:
    """Return, for each of consecutive windows, the signals above their threshold both in it and in the one before."""
    over = [{name for name in SIGNALS if window[name] > 1} for window in strengths]
    before: list[set[str]] = [set(), *over]
    return [[name for name in SIGNALS if name in both[0] & both[1]] for both in zip(over, before, strict=False)]


def replay(observed: Observations, groups: Sequence | np.ndarray, seed: int, replays: int = 300) -> dict[str, Any]:
    """Measure how often windows of the reference's own images raise alarms.

    Returns {"replays": number, "window": {signal: share, "any": share}, "alarm": share}. Each replay draws two disjoint
    windows of whole groups, fits a reference to the other images, and compares. window: of windows in which a signal
    exceeds its threshold. alarm: of replays in which the same signal does in both.
    """
    groups = np.asarray(groups)
    window = default_window(len(observed))
    exceeded = np.zeros((replays, 2, len(SIGNALS)), bool)
    for i in range(replays):
        first = random_windows(groups, window, 1, seed + 2 * i)[0]
        rest = np.flatnonzero(~first)
        second = rest[random_windows(groups[rest], window, 1, seed + 2 * i + 1)[0]]
        left = np.setdiff1d(rest, second)
        reference = fit(observed[left], groups[left], np.empty((0, 0)), {}, seed + i, window, splits=399)
        for j, rows in enumerate((np.flatnonzero(first), second)):
            strengths = reference.strengths(observed[rows])
            exceeded[i, j] = [strengths[name] > 1 for name in SIGNALS]
    shares = dict(zip(SIGNALS, exceeded.mean((0, 1)).tolist(), strict=True))
    shares["any"] = float(np.any(exceeded, axis=2).mean())
    return {"replays": replays, "window": shares, "alarm": float(np.any(exceeded.all(1), axis=1).mean())}


def delay(
    reference: Reference,
    observed: Observations,
    groups: Sequence | np.ndarray,
    seed: int,
    streams: int = 100,
    limit: int = 20,
) -> dict[str, Any]:
    """Measure how soon a stream of images like these N raises an alarm: {detected, images, signals, strength}.

    Streams consist of windows of whole groups drawn from the observations. detected: the share of streams with an alarm
    within `limit` windows; images: the median number of images until then (None unless half of them have one), counted
    from the start of a window, so at least two windows' worth; signals: for each, the share of windows in which it
    exceeds its threshold; strength: its mean.
    """
    inside = random_windows(groups, reference.window, streams * limit, seed)
    strengths = [reference.strengths(observed[np.flatnonzero(row)]) for row in inside]
    firsts = []
    for start in range(0, len(strengths), limit):
        raised = alarms(strengths[start : start + limit])
        firsts.append(next((i + 1 for i, names in enumerate(raised) if names), np.inf))
    middle = float(np.median(firsts))
    values = {name: np.array([window[name] for window in strengths]) for name in SIGNALS}
    return {
        "detected": float(np.isfinite(firsts).mean()),
        "images": int(middle * reference.window) if np.isfinite(middle) else None,
        "signals": {name: float((value > 1).mean()) for name, value in values.items()},
        "strength": {name: float(value.mean()) for name, value in values.items()},
    }


def _signals(observed: Observations, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Return {signal: (B,)} of M predictions split B ways. inside: bool (B, M), true for those in the window.

    Each statistic is 0 for equal samples and grows with their difference.
    """
    sizes = inside.sum(1, keepdims=True)
    rest = inside.shape[1] - sizes
    contrast = np.where(inside, 1 / sizes, -1 / rest)  # each row: mean of the window minus mean of the rest
    scale = (sizes * rest / inside.shape[1])[:, 0]
    image = [_kolmogorov_smirnov(column, contrast) for column in observed.statistics.T]
    return {
        "classes": scale * _chi_square(observed.labels, contrast),
        "confidence": _kolmogorov_smirnov(observed.confidence, contrast),
        "image": np.max(image, axis=0),
        "features": _energy_distance(observed.projection, contrast),
    }


def _chi_square(labels: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return the squared differences of the classes' shares over their pooled share, (B,).

    Times n m / (n + m) that is chi-square.
    """
    onehot = (labels[:, None] == np.unique(labels)).astype(np.float64)
    return ((contrast @ onehot) ** 2 / onehot.mean(0)).sum(1)


def _kolmogorov_smirnov(values: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return the largest distance between the two distribution functions of values (M,), (B,)."""
    order = np.argsort(values, kind="stable")
    ends = np.append(np.diff(values[order]) > 0, True)  # between equal values there is no step
    return np.abs(np.cumsum(contrast[:, order], axis=1)[:, ends]).max(1)


def _energy_distance(points: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return twice the mean distance between points (M, P) of the two samples, minus those within each, (B,)."""
    points = points.astype(np.float64)
    squares = (points**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0))
    np.fill_diagonal(distances, 0)  # rounding leaves the root of a tiny number there
    return -((contrast @ distances) * contrast).sum(1)
