"""Check whether an image is like those that a network was trained on: the gate that every image has to pass.

The gate is a Gaussian around the pooled features of the training images, scaled to length 1: a few principal axes with
their variances, and one variance for all other directions (probabilistic PCA: Tipping & Bishop, JRSS B 61(3), 1999).
The Mahalanobis distance from its centre says how strange an image is; the threshold passes a chosen share of validation
images. `mri.evaluation.gate_fitting` fits it; here is what a service needs of it, with numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from mri.base.errors import UserError


def pool(features: np.ndarray) -> np.ndarray:
    """Return mean and standard deviation over the positions of feature maps (N, K, h, w), float32 (N, 2 K).

    The deviations matter: training makes the means forget whatever doesn't separate the classes.
    """
    maps = features.reshape(*features.shape[:2], -1).astype(np.float32, copy=False)
    mean = maps.mean(2, keepdims=True)
    return np.concatenate([mean[..., 0], maps.std(2, mean=mean)], axis=1)


@dataclass(frozen=True)
class Gate:
    """A fitted gate.

    mean: float32 (D,). axes: float16 (A, D), orthonormal. variances: float32 (A,), along them.

    rest: variance in every other direction. threshold: the score up to which an image passes.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: float
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return the squared distance, float64 (N,), of pooled features (N, D) from the training images.

        Higher is stranger; about D for an image like those it was fitted on.
        """
        offset = unit(features) - self.mean
        # Row by row: for several rows BLAS uses another algorithm and threads, and the last digits differ.
        along = np.array([row @ self._directions for row in offset]).reshape(len(offset), len(self.variances))
        beyond = np.maximum((offset**2).sum(1) - (along**2).sum(1), 0)
        return (along**2 / self.variances).sum(1) + beyond / self.rest

    @cached_property
    def _directions(self) -> np.ndarray:
        """The axes as float64 (D, A)."""
        return self.axes.T.astype(np.float64)

    def passes(self, features: np.ndarray) -> np.ndarray:
        """Check which images, with pooled features (N, D), are like the training images; bool (N,)."""
        return self.score(features) <= self.threshold

    def save(self, path: Path) -> None:
        """Write the gate as safetensors; with 64 axes, 0.14 kB for each of the D features."""
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = {"rest": np.array([self.rest]), "threshold": np.array([self.threshold])}
        arrays = {"mean": self.mean, "axes": self.axes, "variances": self.variances}
        # safetensors writes arrays as they are in memory, and those of PCA are transposed.
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        safetensors.numpy.save_file(contiguous | numbers, path)

    @classmethod
    def load(cls, path: Path) -> Gate:
        """Load what `save` wrote, without unpickling. Raises UserError when the file is missing or damaged."""
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc repro` (or `dvc pull`) first")
        try:
            stored = safetensors.numpy.load_file(path)
            numbers = {name: float(stored.pop(name)[0]) for name in ("rest", "threshold")}
            return cls(**stored, **numbers)  # type: ignore[arg-type]
        except (safetensors.SafetensorError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: run `dvc checkout --force`") from error


def unit(features: np.ndarray) -> np.ndarray:
    """Scale features (N, D) to length 1, float64; zero stays zero."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
