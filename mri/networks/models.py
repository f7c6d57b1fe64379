"""Networks: build, inspect, save and load them.

Every torchvision network that is a chain of modules around one global pooling works: ResNet, ResNeXt, EfficientNet and
MobileNetV3. A new one takes a few lines in conf/model and no code.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
import torchvision
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mri.base.errors import UserError
from mri.base.files import sha256
from mri.base.params import ArchitectureSpec

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"
FORMAT = 2


class Classifier(nn.Module):
    """A torchvision network for grey images: float32 (N, 1, H, W) in [0, 1] to logits (N, C).

    `network` is torchvision's module with its parameter names; normalisation and the copy to three channels happen
    here, so no caller can forget them.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, spec: ArchitectureSpec):
        super().__init__()
        self.network = network
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(1, 3, 1, 1), persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Turn (N, 1, H, W) in [0, 1] into the torchvision network's input, (N, 3, H, W)."""
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(f"expected grey images of shape (N, 1, H, W), got {tuple(images.shape)}")
        return (images - self.mean) / self.std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(self.normalise(images))

    def features(self, images: torch.Tensor, layer: str = "") -> torch.Tensor:
        """Return activations (N, K, h, w) at the end of `layer` (default: the feature layer)."""
        activations = self.normalise(images)
        for _, step in self._steps()[: self._end(layer)]:
            activations = step(activations)
        return activations

    def head(self, features: torch.Tensor, layer: str = "") -> torch.Tensor:
        """Return logits (N, C) from the activations at the end of `layer`: the rest of the network."""
        steps = self._steps()[self._end(layer) :]
        # An in-place activation would overwrite the caller's features.
        activations = features.clone() if getattr(steps[0][1], "inplace", False) else features
        for _, step in steps:
            activations = step(activations)
        return activations

    def features_and_logits(self, images: torch.Tensor, layer: str = "") -> tuple[torch.Tensor, torch.Tensor]:
        """Return activations (N, K, h, w) at the end of `layer` and logits (N, C), in one pass, without hooks."""
        features = self.features(images, layer)
        return features, self.head(features, layer)

    def cells(self, layer: str = "") -> tuple[float, float]:
        """Return the centre of the first cell at the end of `layer` and the distance to the next, in pixels.

        Computed by receptive-field arithmetic (Araujo, Norris and Sim, Distill 2019), equal on both axes.
        A convolution with stride 2 and equal padding on both sides centres its first cell on the first pixel, so after
        five of them cell i is centred on pixel 32 i; a regular grid would have it half a cell further, at 32 i + 15.5.
        """
        first, step = 0.0, 1.0
        for _, stage in self._steps()[: self._end(layer)]:
            for name, module in stage.named_modules():
                if "downsample" in name or not hasattr(module, "kernel_size"):  # the shortcut runs parallel
                    continue
                kernel, stride, padding, dilation = (
                    _of_one_axis(getattr(module, key, 1)) for key in ("kernel_size", "stride", "padding", "dilation")
                )
                first += step * (dilation * (kernel - 1) / 2 - padding)
                step *= stride
        return first, step

    @property
    def classes(self) -> int:
        """Return C, the number of classes."""
        linear = self._steps()[-1][1]
        assert isinstance(linear, nn.Linear)
        return linear.out_features

    @property
    def is_linear_head(self) -> bool:
        """Check whether only global average pooling and one linear layer follow the feature layer."""
        pool, *rest = [step for _, step in self._steps()[self._end("") :] if not isinstance(step, nn.Dropout)]
        return (
            isinstance(pool, nn.AdaptiveAvgPool2d)
            and pool.output_size in (1, (1, 1))
            and [type(step) for step in rest] == [nn.Flatten, nn.Linear]
        )

    @property
    def head_weights(self) -> torch.Tensor:
        """Return the weights (C, K) of the linear head, detached. Raises ValueError where the head is not linear."""
        if not self.is_linear_head:
            raise ValueError(f"{self.spec.name} ends in more than one linear layer: it has no closed form")
        linear = self._steps()[-1][1]
        assert isinstance(linear, nn.Linear)
        return linear.weight.detach()

    def _steps(self) -> list[tuple[str, nn.Module]]:
        """Return the network as a chain of named modules, read anew each time in case a module was replaced."""
        steps: list[tuple[str, nn.Module]] = []
        for name, child in self.network.named_children():
            steps += _unrolled(name, child)
            if name == "avgpool":
                steps.append(("flatten", nn.Flatten(1)))
        return steps

    def _end(self, layer: str) -> int:
        """Return the index of the first step after `layer`."""
        layer = layer or self.spec.feature_layer
        names = [name for name, _ in self._steps()]
        inside = [i for i, name in enumerate(names) if name == layer or name.startswith(f"{layer}.")]
        if not inside or inside[-1] >= names.index("flatten"):
            layers = sorted({name.rsplit(".", 1)[0] for name in names[: names.index("flatten") - 1]})
            raise UserError(f"{self.spec.name} has no convolutional layer {layer!r}; it has {', '.join(layers)}")
        return inside[-1] + 1


def _of_one_axis(setting: int | tuple[int, int]) -> int:
    return setting if isinstance(setting, int) else setting[0]


def _unrolled(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential:
        return [(name, module)]
    return [step for key, child in module.named_children() for step in _unrolled(f"{name}.{key}", child)]


def build(spec: ArchitectureSpec, classes: int, seed: int) -> Classifier:
    """Build an untrained network. The same seed gives the same weights; global random state is not touched.

    Raises UserError for a builder that torchvision doesn't have (naming close matches), for one that isn't a chain of
    modules, and for a layer that the network doesn't have.
    """
    _check_builder(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = Classifier(_network(spec, classes), spec)
    _check_chain(model)
    return model


def _network(spec: ArchitectureSpec, classes: int) -> nn.Module:
    try:
        return torchvision.models.get_model(spec.builder, weights=None, num_classes=classes, **spec.options)
    except TypeError as error:
        raise UserError(f"architecture {spec.name!r}: {error} (see `options` in conf/model)") from None


def _check_builder(spec: ArchitectureSpec) -> None:
    builders = torchvision.models.list_models(module=torchvision.models)
    if spec.builder not in builders:
        near = difflib.get_close_matches(spec.builder, builders, n=3) or [*sorted(builders)[:3], "..."]
        raise UserError(
            f"architecture {spec.name!r}: torchvision.models has no {spec.builder!r}; "
            f"near it are {', '.join(near)} (set `builder` in conf/model)"
        )


def _check_chain(model: Classifier) -> None:
    """Raise UserError unless the chain of modules gives the network's logits on one small image."""
    image = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for layer in (model.spec.feature_layer, model.spec.fine_layer):
                same = torch.allclose(model.features_and_logits(image, layer)[1], model(image), rtol=1e-4, atol=1e-5)
                if not same:
                    raise ValueError("different logits")
    except (ValueError, RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
        raise UserError(
            f"architecture {model.spec.name!r}: {model.spec.builder} is not a plain chain of modules around `avgpool` "
            "(ResNet, ResNeXt, EfficientNet and MobileNetV3 are)"
        ) from error
    finally:
        model.train(was_training)


def parameter_count(model: nn.Module) -> int:
    """Count trainable and frozen parameters, not buffers."""
    return sum(parameter.numel() for parameter in model.parameters())


def gmac(model: nn.Module, size: int) -> float:
    """Return the multiply-accumulates, in 10^9, of one forward pass of one `size` x `size` image.

    Half of PyTorch's FLOP count (convolutions and matrix products), from shapes alone on a copy of the model.
    """
    shapes = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(torch.zeros(1, 1, size, size, device="meta"))
    return counter.get_total_flops() / 2e9


class SavedModel(NamedTuple):
    """The result of `load`: the model in eval mode on the CPU, its class names, and `extra` as it was saved."""

    model: Classifier
    classes: list[str]
    extra: dict[str, Any]


def save(
    model: Classifier, classes: Sequence[str], size: int, folder: Path, extra: dict[str, Any] | None = None
) -> None:
    """Write the weights (safetensors, torchvision's own names) and model.json, which says how to use them.

    size: side in pixels of the images that the model is meant for. extra: anything JSON can hold that a user of the
    model needs, such as the data's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    safetensors.torch.save_file(weights, folder / WEIGHTS_FILE)
    card = {
        "format": FORMAT,
        "architecture": model.spec.model_dump(mode="json"),
        "classes": list(classes),
        "parameters": parameter_count(model),
        "input": {
            "layout": "N,1,H,W",
            "dtype": "float32",
            "range": [0.0, 1.0],
            "size": size,
            "normalisation": {"mean": model.spec.mean, "std": model.spec.std, "applied_by": "the model"},
        },
        "weights": {"file": WEIGHTS_FILE, "sha256": sha256(folder / WEIGHTS_FILE)},
        "extra": extra or {},
    }
    (folder / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> SavedModel:
    """Load the model that `save` wrote, in eval mode on the CPU. Nothing is unpickled.

    Raises UserError naming the file when one is missing, damaged, or not of this format.
    """
    card = _read_card(folder / CARD_FILE)
    spec, classes = card["architecture"], card["classes"]
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `dvc pull` or `dvc repro`")
    if sha256(path) != card["weights"]["sha256"]:
        raise UserError(f"{path} is damaged (its SHA-256 is not the one in {CARD_FILE}): run `dvc checkout --force`")
    _check_builder(spec)
    with torch.device("meta"):  # shapes only: initialising weights that are replaced at once would take a second
        network = _network(spec, len(classes))
    try:
        network.load_state_dict(safetensors.torch.load_file(path), assign=True)
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} does not hold the weights of {spec.builder} for {len(classes)} classes") from error
    return SavedModel(Classifier(network, spec).eval(), classes, card["extra"])


def _read_card(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `dvc pull` or `dvc repro`")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise UserError(f"{path} has format {card['format']}, this code reads {FORMAT}: run `dvc repro`")
        spec = ArchitectureSpec(**card["architecture"])
        classes = [str(name) for name in card["classes"]]
        return card | {"architecture": spec, "classes": classes, "weights": dict(card["weights"])}
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{path} is not a model card ({type(error).__name__}): run `dvc checkout --force`") from error
