"""A package of small networks, as the package stage writes one, and the service's application over it."""

from __future__ import annotations

import functools
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI
from PIL import Image

from mri.base.files import read_json
from mri.evaluation.gate_fitting import fit_gate
from mri.export.guided import export_guided
from mri.export.openvino import export
from mri.export.quantisation import quantise
from mri.inference import gate
from mri.inference.package import ABOUT, GATE, list_files, write_about
from mri.inference.runtime import read_card, write_card
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor
from service import api
from service.predictor import Predictor
from service.settings import Settings
from tests.conftest import architecture, blobs

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
SIZE = 32


def network(seed: int, name: str = "small") -> Classifier:
    """Return a small ResNet that was never trained; its batch norm has statistics such as training leaves."""
    spec = architecture(name, "resnet18", "layer4", "layer3")
    return settled(models.build(spec, len(CLASSES), seed), SIZE)


def settled(model: Classifier, size: int) -> Classifier:
    """Return the model in eval mode, with batch-norm statistics of images of that size."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what is seen
    with torch.no_grad():
        model.train()(to_tensor(blobs(16, size).pixels))
    return model.eval()


def package(
    folder: Path, names: tuple[str, ...] = ("winner", "other"), precision: str = "fp32"
) -> dict[str, Classifier]:
    """Write a package of small networks, the first the winner, and return the networks behind it."""
    models, original = _exported(names, precision)
    shutil.copytree(original.name, folder, dirs_exist_ok=True)
    return models


@functools.cache
def _exported(names: tuple[str, ...], precision: str) -> tuple[dict[str, Classifier], tempfile.TemporaryDirectory]:
    """Return the networks and their package, made once for all tests: exporting takes seconds."""
    original = tempfile.TemporaryDirectory()
    folder = Path(original.name)
    models = {name: network(seed, name) for seed, name in enumerate(names)}
    for name, model in models.items():
        _package_network(model, folder / "models" / name, precision)
    about = {
        "winner": names[0],
        "models": list(names),
        "classes": CLASSES,
        "coverage": 0.95,
        "dataset": "phantom",
        "data_version": "0123456789ab",
        "synthetic": True,
        "protocol": "grouped",
        "test": {name: {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}} for name in names},
    }
    write_about(about, folder)
    return models, original


def relist(folder: Path) -> None:
    """Update the checksums of a package whose cards or reference were changed on purpose."""
    write_about(read_json(folder / ABOUT), folder)


def _package_network(model: Classifier, folder: Path, precision: str) -> None:
    export(model, CLASSES, SIZE, folder, {"precision": precision})
    pixels = blobs(40, SIZE).pixels
    export_guided(model, pixels[:4], folder)
    if precision == "int8":
        quantise(folder, pixels)
    with torch.inference_mode():
        pooled = gate.pool(model.features(to_tensor(pixels)).numpy())
    fit_gate(pooled[:24], pooled[24:], true_positive_rate=1.0).save(folder / GATE)
    fitted = {"temperature": 1.5, "thresholds": {"90": 0.3, "95": 0.2}, "files": list_files(folder)}
    write_card(read_card(folder) | fitted, folder)


def application(package: Path | Predictor, folder: Path, **settings: Any) -> FastAPI:
    """Return the service's application over a package; its monitoring store is folder/monitoring.db."""
    predictor = package if isinstance(package, Predictor) else Predictor(package)
    store = f"sqlite:///{folder / 'monitoring.db'}"
    return api.create(predictor, Settings(monitoring_url=store, rollup_seconds=0, **settings))


def png(pixels: np.ndarray) -> bytes:
    """Return a PNG file of grey pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def scan(seed: int = 0, side: int = 64) -> bytes:
    """Return a PNG file of an image such as a package's gate was fitted on."""
    return png(blobs(seed + 1, side, seed).pixels[seed])
