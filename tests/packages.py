"""A packaged service of small networks, as the package stage leaves one."""

from __future__ import annotations

import functools
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mri.base.files import read_json
from mri.base.params import ArchitectureSpec
from mri.evaluation import strange_images
from mri.export.guided import export_guided
from mri.export.openvino import export
from mri.export.quantisation import quantise
from mri.inference import gate
from mri.inference.package import ABOUT, GATE, list_files, write_about
from mri.inference.runtime import read_card, write_card
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor
from tests.conftest import blobs

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
SIZE = 32


def network(seed: int, name: str = "small") -> Classifier:
    """A small ResNet that was never trained; batch norm has statistics of the kind that training leaves."""
    spec = ArchitectureSpec(name=name, builder="resnet18", feature_layer="layer4", fine_layer="layer3")
    return settled(models.build(spec, len(CLASSES), seed), SIZE)


def settled(model: Classifier, size: int) -> Classifier:
    """The model in eval mode, with batch-norm statistics of images of that size."""
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
    made, written = _made(names, precision)
    shutil.copytree(written.name, folder, dirs_exist_ok=True)
    return made


@functools.cache
def _made(names: tuple[str, ...], precision: str) -> tuple[dict[str, Classifier], tempfile.TemporaryDirectory]:
    """The networks and their package, made once for all tests: exporting takes seconds."""
    written = tempfile.TemporaryDirectory()
    folder = Path(written.name)
    made = {name: network(seed, name) for seed, name in enumerate(names)}
    for name, model in made.items():
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
    return made, written


def relist(folder: Path) -> None:
    """Make a package whole again after its cards or its reference were changed on purpose."""
    write_about(read_json(folder / ABOUT), folder)


def _package_network(model: Classifier, folder: Path, precision: str) -> None:
    export(model, CLASSES, SIZE, folder, {"precision": precision})
    pixels = blobs(40, SIZE).pixels
    export_guided(model, pixels[:4], folder)
    if precision == "int8":
        quantise(folder, pixels)
    with torch.inference_mode():
        pooled = gate.pool(model.features(to_tensor(pixels)).numpy())
    strange_images.fit_gate(pooled[:24], pooled[24:], true_positive_rate=1.0).save(folder / GATE)
    known = {"temperature": 1.5, "thresholds": {"90": 0.3, "95": 0.2}, "files": list_files(folder)}
    write_card(read_card(folder) | known, folder)


def png(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG file of grey pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def scan(seed: int = 0, side: int = 64) -> bytes:
    """An image of the kind that the gate of a package knows, as a PNG file."""
    return png(blobs(seed + 1, side, seed).pixels[seed])
