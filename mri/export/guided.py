"""Export guided backpropagation as a graph of its own, so that a service can explain without PyTorch.

The backward pass of `mri.explanation.maps` is traced into plain operations once per network and exported like any other
graph: image and class in, the guided gradient out. Two of PyTorch's backward operations have no counterpart in OpenVINO
and are written out here: that of a convolution (a transposed convolution) and that of max pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
import torch.nn.functional as F
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from mri.explanation.maps import guided_gradient
from mri.inference.runtime import GUIDED, core
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor

aten = torch.ops.aten
# Share of a map's sum: rounding that flips a rectifier shows in single pixels.
TOLERANCE = 0.01


def export_guided(model: Classifier, pixels: np.ndarray, folder: Path) -> bool:
    """Write guided.xml and guided.bin: float32 (1, 1, S, S) in [0, 1] and int64 (1,) to float32 (1, S, S).

    pixels: uint8 (N, S, S), images like those of training, on which the exported graph is compared with PyTorch.
    Returns False and writes nothing where its maps differ by more than TOLERANCE of their sum: a service then has no
    guided maps rather than wrong ones.
    """
    images, targets = to_tensor(pixels), torch.arange(len(pixels)) % model.classes
    example = (images[:1], targets[:1])
    traced = make_fx(lambda images, target: guided_gradient(model, images, target), decomposition_table=_table())(
        *example
    )
    converted = openvino.convert_model(torch.export.export(_separate_weights(traced), example))
    converted.outputs[0].get_tensor().set_names({"gradient"})
    compiled = core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    maps = [compiled([images[i : i + 1].numpy(), targets[i : i + 1].numpy()])["gradient"] for i in range(len(pixels))]
    expected = guided_gradient(model, images, targets).numpy()
    if np.abs(np.concatenate(maps) - expected).sum() > TOLERANCE * expected.sum():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(converted, folder / GUIDED, compress_to_fp16=False)
    return True


def _table() -> dict[Any, Callable]:
    """Return replacements for backward operations that OpenVINO lacks."""
    norms = [aten.native_batch_norm_backward, aten.native_batch_norm, aten._native_batch_norm_legit_no_training]
    slopes = [aten.silu_backward, aten.threshold_backward, aten.sigmoid_backward, aten.hardswish_backward]
    return get_decompositions([*norms, *slopes, aten.hardsigmoid_backward, aten.gelu_backward, aten.elu_backward]) | {
        aten.convolution_backward.default: _convolution_backward,
        aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
    }


def _convolution_backward(
    gradient: torch.Tensor,
    images: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    mask: list[bool],
) -> tuple[torch.Tensor, None, None]:
    """Return the gradient with respect to the convolution's input alone. `_separate_weights` explains the signs."""
    reached = [
        (gradient.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1
        for i in range(2)
    ]
    missing = [images.shape[2 + i] - reached[i] for i in range(2)]  # rows and columns that the stride left over
    back = aten.convolution(gradient, -weight, None, stride, padding, dilation, True, missing, groups)
    return -back, None, None


def _separate_weights(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Give the backward pass constants of its own: the negated weights.

    Where forward and backward pass share a constant, OpenVINO scales it for both when it merges the forward pass's
    batch norm into the convolution, and the gradient is wrong. Equal constants could be merged again; negated ones
    can't.
    """
    for node in list(traced.graph.nodes):
        if node.target is aten.neg.default and node.args[0].op == "get_attr":
            name = f"backward_{node.args[0].target}"
            traced.register_buffer(name, -getattr(traced, node.args[0].target).detach())
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.get_attr(name))
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _max_pool_backward(
    gradient: torch.Tensor,
    images: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
    indices: torch.Tensor,
) -> torch.Tensor:
    """Pass the gradient to the first largest pixel of each window; windows may overlap."""
    (rows, columns), channels, (height, width) = kernel, images.shape[1], gradient.shape[2:]
    padded = F.pad(images, (padding[1], padding[1], padding[0], padding[0]), value=float("-inf"))
    bottom, right = (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1
    windows = torch.stack(
        [
            padded[:, :, row : row + bottom : stride[0], column : column + right : stride[1]]
            for row in range(rows)
            for column in range(columns)
        ],
        dim=2,
    )
    largest = (windows == windows.amax(2, keepdim=True)).to(gradient.dtype)
    first = largest * (largest.cumsum(2) == 1).to(gradient.dtype)
    shares = (first * gradient.unsqueeze(2)).flatten(1, 2)
    place = torch.eye(rows * columns).reshape(-1, 1, rows, columns).repeat(channels, 1, 1, 1)
    spread = F.conv_transpose2d(shares, place, stride=stride, groups=channels)
    missing = (0, padded.shape[3] - spread.shape[3], 0, padded.shape[2] - spread.shape[2])
    top, left = padding
    return F.pad(spread, missing)[:, :, top : top + images.shape[2], left : left + images.shape[3]]
