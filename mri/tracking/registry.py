"""The winner in MLflow's model registry: the exported network and its signature, loaded without PyTorch or pickle."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mri.inference.runtime import Runtime, read_card, softmax

NAME, ALIAS = "brain-tumour-mri", "champion"
REQUIREMENTS = ("mlflow", "numpy", "openvino")  # what `mri.inference.runtime` and MLflow's loader import


def save(exported: Path, folder: Path, about: dict[str, Any]) -> None:
    """Write an exported network to `folder` in MLflow's format, with the library beside it; `about` is metadata.

    Its signature: uint8 (N, size, size), as `mri.data.images.prepare` returns them, to calibrated probabilities,
    float64 (N, C).
    """
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import Schema, TensorSpec

    card = read_card(exported)
    size, classes = card["input"]["size"], card["classes"]
    save_model(
        folder,
        loader_module="mri.tracking.registry",
        data_path=str(exported),
        code_paths=[str(Path(__file__).parents[1])],
        signature=ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size), "pixels")]),
            outputs=Schema([TensorSpec(np.dtype(np.float64), (-1, len(classes)), "probabilities")]),
        ),
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        metadata={"classes": classes, **about},
    )


class Served:
    """Predict calibrated probabilities from images, in the form that MLflow calls."""

    def __init__(self, folder: Path):
        self._runtime = Runtime(folder)

    def predict(self, pixels: np.ndarray | dict[str, np.ndarray], params: dict[str, Any] | None = None) -> np.ndarray:
        images = pixels["pixels"] if isinstance(pixels, dict) else pixels
        return softmax(self._runtime(images)[0], self._runtime.card["temperature"])


def _load_pyfunc(path: str) -> Served:
    """Load a saved model. MLflow looks for a function of this name."""
    return Served(Path(path))
