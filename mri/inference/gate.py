"""Check whether an image is like those that a network was trained on: the gate that every image has to pass.

The gate is a linear head on the pooled features: logistic regression between training images and families of strange
images made from them. The threshold passes a chosen share of validation images. `mri.evaluation.gate_fitting` fits it;
here is what a service needs of it, with numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from mri.base.errors import UserError


def pool(features: np.ndarray) -> np.ndarray:
    """Return mean, standard deviation and tilt of feature maps (N, K, h, w), float32 (N, 3 K).

    The deviations matter: training makes the means forget whatever doesn't separate the classes. Tilt is the mean of
    the map times the row, from -1/2 at the top to 1/2 at the bottom: without it a head that is upside down looks like
    one that isn't.
    """
    maps = features.astype(np.float32, copy=False)
    height, width = maps.shape[2:]
    mean = maps.mean((2, 3), keepdims=True)
    rows = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height) - np.float32(0.5)
    tilt = (maps.sum(3) * rows).sum(2) / np.float32(height * width)
    return np.concatenate([mean[..., 0, 0], maps.std((2, 3), mean=mean), tilt], axis=1)


@dataclass(frozen=True)
class Gate:
    """A fitted gate.

    weights: float32 (F, D), of features scaled to length 1, for each family of strange images. bias: float64 (F,),
    added to their products. threshold: the score up to which an image passes.
    """

    weights: np.ndarray
    bias: np.ndarray
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64 (N,), that an image with these pooled features (N, D) is a strange one.

        They hold where all families and genuine images are met equally often; higher is stranger.
        """
        # Row by row: for several rows BLAS uses another algorithm and threads, and the last digits differ.
        weights = self.weights.astype(np.float64)
        odds = np.array([weights @ row for row in unit(features)]).reshape(len(features), len(self.bias)) + self.bias
        return np.logaddexp.reduce(odds, axis=1)

    def passes(self, features: np.ndarray) -> np.ndarray:
        """Check which images, with pooled features (N, D), are like the training images; bool (N,)."""
        return self.score(features) <= self.threshold

    def save(self, path: Path) -> None:
        """Write the gate as safetensors: 4 bytes for each of the F times D weights."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"weights": self.weights, "bias": self.bias, "threshold": np.array([self.threshold])}
        safetensors.numpy.save_file(arrays, path)

    @classmethod
    def load(cls, path: Path) -> Gate:
        """Load what `save` wrote, without unpickling. Raises UserError when the file is missing or damaged."""
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc repro` (or `dvc pull`) first")
        try:
            stored = safetensors.numpy.load_file(path)
            return cls(stored["weights"], stored["bias"], float(stored["threshold"][0]))
        except (safetensors.SafetensorError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"{path} is damaged: run `dvc checkout --force`") from error


def unit(features: np.ndarray) -> np.ndarray:
    """Scale features (N, D) to length 1, float64; zero stays zero."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
