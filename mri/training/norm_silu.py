"""Batch normalisation and SiLU as one training step, which stores half as much for the backward pass.

Separately, each stores its input (an in-place SiLU stores a copy). Normalised values are cheap to recompute, so
together they store only the input of the normalisation (the checkpointing that Rota Bulò, Porzi and Kontschieder start
from in "In-Place Activated BatchNorm", CVPR 2018).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class BatchNormSiLU(nn.BatchNorm2d):
    """A BatchNorm2d with running statistics, followed by SiLU; parameters and buffers keep their names."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return F.silu(super().forward(images), inplace=True)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return _NormSiLU.apply(
            images, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps
        )


class _NormSiLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        running_mean: torch.Tensor,
        running_var: torch.Tensor,
        momentum: float,
        eps: float,
    ) -> torch.Tensor:
        norm = torch.native_batch_norm(images, weight, bias, running_mean, running_var, True, momentum, eps)
        normalised, mean, inverse_deviation = norm
        ctx.eps = eps
        ctx.save_for_backward(images, weight, bias, mean, inverse_deviation)
        return F.silu(normalised, inplace=True)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, weight, bias, mean, inverse_deviation = ctx.saved_tensors
        variance = inverse_deviation.pow(-2) - ctx.eps
        normalised = F.batch_norm(images, mean, variance, weight, bias, training=False, eps=ctx.eps)
        gradient = torch.ops.aten.silu_backward.grad_input(gradient, normalised, grad_input=normalised)
        gradients = torch.ops.aten.native_batch_norm_backward(
            gradient, images, weight, None, None, mean, inverse_deviation, True, ctx.eps, [True, True, True]
        )
        return (*gradients, None, None, None, None)


def join_norm_and_silu(model: nn.Module) -> None:
    """Replace every BatchNorm2d that a SiLU follows in a chain of modules by one step; names of weights stay."""
    for chain in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (norm, activation) in enumerate(pairwise(list(chain))):
            if type(norm) is nn.BatchNorm2d and isinstance(activation, nn.SiLU):
                chain[i], chain[i + 1] = _joined(norm), nn.Identity()


def _joined(norm: nn.BatchNorm2d) -> BatchNormSiLU:
    joined = BatchNormSiLU(norm.num_features, norm.eps, norm.momentum)
    joined.load_state_dict(norm.state_dict(), assign=True)
    return joined.train(norm.training)
