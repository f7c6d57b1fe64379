"""Compute explanation maps: how much each pixel contributes to the score of a class.

The methods are those of `mri.inference.methods`. Maps are raw: non-negative, on the method's own scale, never stretched
to 0..1 (that is display), so that mass and magnitude can be measured (`mri.explanation.scores`). Every function leaves
the model unchanged, without hooks, and may be called from several threads at once.

The rule for guided backpropagation is `relu(g) * 1[x > 0] * act'(x)`, where g is the gradient from above and x the
input of the activation `act`. For ReLU, whose slope is 1[x > 0], that is the original rule (Springenberg et al. 2015).
The paper has no rule for the smooth activations of EfficientNet and MobileNet (SiLU, Hardswish), where replacing ReLU
alone would return the plain gradient under another name. For those the rule is this project's own: "guided SiLU".
Gates (Sigmoid, Hardsigmoid) are left alone: they scale, they don't rectify.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from mri.base.errors import UserError
from mri.inference.gradcam import Cells, gradcam_from_features, guided_gradcam, upsample
from mri.inference.methods import FEATURES, FINE_FEATURES, GRADIENT, GUIDED_GRADIENT, METHODS, needs_of
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Mish)


def explain(
    model: Classifier,
    images: np.ndarray | torch.Tensor,
    target: Sequence[int] | np.ndarray | torch.Tensor | None = None,
    method: str = "gradcam",
    batch_size: int = 16,
) -> np.ndarray:
    """Compute maps by one method, float32 (N, H, W). Arguments and errors as in `explain_many`."""
    return explain_many(model, images, target, [method], batch_size)[method]


def explain_many(
    model: Classifier,
    images: np.ndarray | torch.Tensor,
    target: Sequence[int] | np.ndarray | torch.Tensor | None = None,
    methods: Sequence[str] = tuple(METHODS),
    batch_size: int = 16,
) -> dict[str, np.ndarray]:
    """Compute maps by several methods, sharing what they have in common: {method: float32 (N, H, W)}.

    images: (N, 1, H, W) in [0, 1].
    target: the class to explain, per image; None for the predicted one. Its logit is explained, before the softmax.
    batch_size: images at once. Images don't mix, but sums run in another order, and rounding that flips a ReLU shows in
        single pixels of the gradient methods.

    Raises UserError for a method that doesn't exist, ValueError for targets that don't fit or a model in training mode.
    """
    _check_methods(methods)
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in training mode: call model.eval() before explaining it")
    if len(images) == 0:
        return {method: np.zeros((0, *images.shape[2:]), np.float32) for method in methods}
    with torch.inference_mode(False), torch.enable_grad():
        # Cloned, because tensors that were made in inference mode can't take part in a gradient.
        weight = next(model.parameters())
        pixels = torch.as_tensor(images).detach().clone().to(weight.device, weight.dtype)
        classes = _targets(model, pixels, target, batch_size)
        batches = zip(pixels.split(batch_size), classes.split(batch_size), strict=True)
        parts = [_explain_batch(model, batch, targets, methods) for batch, targets in batches]
    return {method: np.concatenate([part[method] for part in parts], dtype=np.float32) for method in methods}


def _check_methods(methods: Sequence[str]) -> None:
    for method in methods:
        if method not in METHODS:
            raise UserError(f"there is no explanation method {method!r}: choose from {', '.join(METHODS)}")


@torch.no_grad()
def _predicted(model: Classifier, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    return torch.cat([model(batch).argmax(dim=1) for batch in images.split(batch_size)])


def _targets(
    model: Classifier,
    images: torch.Tensor,
    target: Sequence[int] | np.ndarray | torch.Tensor | None,
    batch_size: int,
) -> torch.Tensor:
    if target is None:
        return _predicted(model, images, batch_size)
    classes = torch.as_tensor(target, device=images.device)
    if classes.shape != (len(images),) or classes.is_floating_point():
        raise ValueError(f"target: one class index for each of {len(images)} images, got shape {tuple(classes.shape)}")
    if classes.min() < 0 or classes.max() >= model.classes:
        raise ValueError(f"target: classes are 0 to {model.classes - 1}, got {classes.tolist()}")
    return classes.long()


def _explain_batch(
    model: Classifier, images: torch.Tensor, target: torch.Tensor, methods: Sequence[str]
) -> dict[str, np.ndarray]:
    maps, needs, size = {}, needs_of(methods), (images.shape[2], images.shape[3])
    if FEATURES in needs:
        grid = gradcam_grid(model, images, target)
        maps["gradcam"] = upsample(grid, size)
        maps["gradcam_aligned"] = upsample(grid, size, Cells(*model.cells()))
    if FINE_FEATURES in needs:
        maps["gradcam_fine"] = upsample(gradcam_grid(model, images, target, model.spec.fine_layer), size)
    if GUIDED_GRADIENT in needs:
        maps["guided_backprop"] = guided_gradient(model, images, target).cpu().numpy()
    if GRADIENT in needs:
        maps["gradient"] = _input_gradient(_twin(model), images, target).cpu().numpy()
    if "guided_gradcam" in methods:
        maps["guided_gradcam"] = guided_gradcam(maps["guided_backprop"], maps["gradcam"])
    return maps


class Grid(NamedTuple):
    """The coarse grid that a method's maps are upsampled from: rows and columns, and where their cells are centred.

    cells: None for cells that share the image evenly.
    """

    shape: tuple[int, int]
    cells: Cells | None = None


def grids_of(model: Classifier, pixels: np.ndarray) -> dict[str, Grid]:
    """Return {method: its grid} at the size of `pixels` (N, S, S), N >= 1; other methods work on pixels."""
    coarse, fine = _grid_shape(model, pixels), _grid_shape(model, pixels, model.spec.fine_layer)
    return {
        "gradcam": Grid(coarse),
        "gradcam_aligned": Grid(coarse, Cells(*model.cells())),
        "gradcam_fine": Grid(fine),
    }


def _grid_shape(model: Classifier, pixels: np.ndarray, layer: str = "") -> tuple[int, int]:
    height, width = gradcam_grid(model, to_tensor(pixels[:1]), torch.zeros(1, dtype=torch.long), layer).shape[1:]
    return height, width


def gradcam_grid(model: Classifier, images: torch.Tensor, target: torch.Tensor, layer: str = "") -> np.ndarray:
    """Return Grad-CAM on the layer's own grid, float32 (N, h, w); without a backward pass where the head is linear."""
    with torch.no_grad():
        features = model.features(images, layer)
    if layer in ("", model.spec.feature_layer) and model.is_linear_head:
        return gradcam_from_features(*(part.cpu().numpy() for part in (features, model.head_weights, target)))
    return gradcam_by_gradient(model, features, target, layer)


def gradcam_by_gradient(model: Classifier, features: torch.Tensor, target: torch.Tensor, layer: str = "") -> np.ndarray:
    """Return Grad-CAM by its definition, float32 (N, h, w): relu(sum_k mean(d logit / d A_k) * A_k).

    The backward pass goes through the head only, from the logits to `features` (N, K, h, w) at the end of `layer`.
    """
    leaf = features.detach().requires_grad_()
    logits = model.head(leaf, layer)
    (gradient,) = torch.autograd.grad(_score(logits, target), leaf)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).clamp(min=0).detach().cpu().numpy()


def _score(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    # In eval mode images don't mix, so the gradient of the sum holds every image's own gradient.
    return logits.gather(1, target[:, None]).sum()


def guided_gradient(model: Classifier, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return guided backpropagation of one class per image, float32 (N, H, W).

    images: (N, 1, H, W) in [0, 1]. target: int64 (N,).
    """
    return _input_gradient(_guided(_twin(model)), images, target)


def _input_gradient(model: Classifier, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return |d logit / d pixel|, float32 (N, H, W). Images are grey, so there is no channel to choose."""
    leaf = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(_score(model(leaf), target), leaf)
    return gradient[:, 0].abs()


def _twin(model: Classifier) -> Classifier:
    """Return a frozen copy of the network's modules that shares its weights.

    Takes milliseconds, so it is made for every batch: nothing to keep in step with the model, nothing to lock.
    """
    shared: dict[int, object] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, shared)


def _guided(model: Classifier) -> Classifier:
    """Replace every rectifier of `model` by its guided form. Raises UserError where there is none."""
    replaced = 0
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, RECTIFIERS):
                parent._modules[name] = GuidedActivation(child)
                replaced += 1
    if not replaced:
        raise UserError(f"{model.spec.name} has no activation module to guide: guided backpropagation is not defined")
    return model


class GuidedActivation(nn.Module):
    """Compute the activation in the forward pass and `relu(g) * 1[x > 0] * act'(x)` in the backward pass."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation = copy.copy(activation)
        # Not in place, because the backward pass needs x; activations without the setting ignore it.
        self.activation.inplace = False  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _GuidedFunction.apply(x, self.activation)


class _GuidedFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, activation: nn.Module) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.activation = activation
        return activation(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (passed,) = torch.autograd.grad(ctx.activation(leaf), leaf, gradient.clamp(min=0))
        return passed * (x > 0), None
