"""Whether an image is of the kind that a network was trained on: the gate that a picture has to pass.

The gate is a Gaussian around the pooled features of the training images, scaled to length 1: a few principal axes with
their variances, and one variance for all other directions (probabilistic PCA: Tipping & Bishop, JRSS B 61(3), 1999).
The distance from its centre (Mahalanobis) says how strange an image is; the threshold lets through a chosen share of
validation images. Labels and logits don't help: `energy`, the usual score of logits, is here to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from scipy.special import logsumexp
from sklearn.decomposition import PCA

from mri.errors import UserError
from mri.evaluation import area_under_roc
from mri.intervals import Estimate, estimate, resample_weights

# More gain nothing on synthetic or real slices; with 64 a file for 2,048 channels has 0.6 MB.
AXES = 64
# Least variance: that of features that never vary must not be zero.
SMALLEST = 1e-12


def pool(features: np.ndarray) -> np.ndarray:
    """float32 (N, 2 K): mean and standard deviation over the positions of feature maps (N, K, h, w).

    The deviations matter: training makes means forget whatever doesn't tell its classes apart.
    """
    maps = features.reshape(*features.shape[:2], -1).astype(np.float32, copy=False)
    return np.concatenate([maps.mean(2), maps.std(2)], axis=1)


@dataclass(frozen=True)
class Gate:
    """mean: float32 (D,). axes: float16 (A, D), orthonormal. variances: float32 (A,), along them.

    rest: variance in every other direction. threshold: the score up to which an image passes.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: float
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """float64 (N,): squared distance of pooled features (N, D) from the training images; higher is stranger.

        About D for an image like those it was fitted on.
        """
        apart = _unit(features) - self.mean
        along = apart @ self.axes.T.astype(np.float64)
        beyond = np.maximum((apart**2).sum(1) - (along**2).sum(1), 0)
        return (along**2 / self.variances).sum(1) + beyond / self.rest

    def passes(self, features: np.ndarray) -> np.ndarray:
        """bool (N,): whether images with pooled features (N, D) are of the known kind."""
        return self.score(features) <= self.threshold

    def save(self, path: Path) -> None:
        """Write the gate as safetensors; at AXES axes, 0.14 kB for each of the D features."""
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = {"rest": np.array([self.rest]), "threshold": np.array([self.threshold])}
        arrays = {"mean": self.mean, "axes": self.axes, "variances": self.variances}
        # safetensors writes arrays as they lie in memory, and those of PCA lie transposed.
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        safetensors.numpy.save_file(contiguous | numbers, path)

    @classmethod
    def load(cls, path: Path) -> Gate:
        """The gate that `save` wrote; nothing is unpickled. Raises UserError when the file is missing or damaged."""
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc repro` (or `dvc pull`) first")
        try:
            stored = safetensors.numpy.load_file(path)
            numbers = {name: float(stored.pop(name)[0]) for name in ("rest", "threshold")}
            return cls(**stored, **numbers)  # type: ignore[arg-type]
        except (safetensors.SafetensorError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: run `dvc checkout --force`") from error


def fit(train: np.ndarray, val: np.ndarray, true_positive_rate: float = 0.95, axes: int = AXES) -> Gate:
    """The gate around pooled features `train` (N, D) that lets through at least the given share of `val` (M, D).

    Never more axes than half of N or D, whichever is less. The validation images must be new to the network: features
    of those it was trained on lie closer together.
    """
    directions = _unit(train)
    axes = min(axes, min(train.shape) // 2)
    fitted = PCA(axes, svd_solver="randomized", random_state=0).fit(directions)
    variances = fitted.explained_variance_
    rest = (directions.var(0, ddof=1).sum() - variances.sum()) / (train.shape[1] - axes)
    gate = Gate(
        fitted.mean_.astype(np.float32),
        fitted.components_.astype(np.float16, order="C"),
        np.maximum(variances, SMALLEST).astype(np.float32),
        max(float(rest), SMALLEST),
        threshold=np.inf,
    )
    return replace(gate, threshold=threshold(gate.score(val), true_positive_rate))


def _unit(features: np.ndarray) -> np.ndarray:
    """Features (N, D) scaled to length 1, float64; zero stays zero."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def energy(logits: np.ndarray) -> np.ndarray:
    """float64 (N,): minus the log of the sum of exponentials of logits (N, C); higher is stranger (Liu et al. 2020)."""
    return -logsumexp(logits.astype(np.float64), axis=1)


def threshold(inside: np.ndarray, true_positive_rate: float) -> float:
    """The least score that at least this share (0 to 1) of the genuine images' scores `inside` (N,) doesn't exceed."""
    return float(np.quantile(inside, true_positive_rate, method="inverted_cdf"))


def summarise(
    inside: np.ndarray, outside: np.ndarray, groups: Sequence | np.ndarray, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """How well a score tells strange images from genuine ones: {auroc, fpr_at_95_tpr}, each {value, low, high}.

    inside: (N,) scores of genuine images; groups: (N,), what of them is resampled together. outside: (M,) scores of
    strange ones. auroc: the chance that a strange one scores higher; 1 is perfect, 0.5 is chance. fpr_at_95_tpr: the
    share of strange ones let through by the threshold that lets 95 % of these genuine ones through; 0 is perfect.
    """
    weights = [
        resample_weights(groups, resamples, seed),
        resample_weights(np.arange(len(outside)), resamples, seed + 1),
    ]
    weights = [np.concatenate([np.ones((1, part.shape[1])), part]) for part in weights]
    areas, rates = auroc(inside, outside, *weights), false_positive_rate(inside, outside, *weights)  # type: ignore[arg-type]
    return {"auroc": _estimated(areas), "fpr_at_95_tpr": _estimated(rates)}


def auroc(
    inside: np.ndarray, outside: np.ndarray, inside_weights: np.ndarray, outside_weights: np.ndarray
) -> np.ndarray:
    """(B,) chance that a strange image outscores a genuine one, ties counting half; weights: (B, N) and (B, M)."""
    strange = np.arange(len(inside) + len(outside)) >= len(inside)
    weights = np.concatenate([inside_weights, outside_weights], axis=1)
    return area_under_roc(np.concatenate([inside, outside]), strange, weights)


def false_positive_rate(
    inside: np.ndarray,
    outside: np.ndarray,
    inside_weights: np.ndarray,
    outside_weights: np.ndarray,
    true_positive_rate: float = 0.95,
) -> np.ndarray:
    """(B,) share of strange images that the `threshold` of that rate lets through; weights: (B, N) and (B, M)."""
    order = np.argsort(inside, kind="stable")
    passed = np.cumsum(inside_weights[:, order], axis=1)
    least = (passed >= true_positive_rate * passed[:, -1:] - 1e-9).argmax(1)
    let_through = outside <= inside[order][least][:, None]
    return (outside_weights * let_through).sum(1) / outside_weights.sum(1)


def _estimated(values: np.ndarray) -> Estimate:
    return estimate(float(values[0]), values[1:])
