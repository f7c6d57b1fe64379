"""Choose the number format in which a network trains fastest on this machine: fp32, or bf16 by autocast."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from copy import deepcopy
from statistics import median

import torch
from torch import nn

from mri.base.params import Train
from mri.networks.models import Classifier
from mri.training import distributed

TURNS = 7  # how often the two formats are timed, after one turn for warm-up
FEW = 8  # images


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Return the context for forward passes in `dtype`, float32 or bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def choose_dtype(model: Classifier, settings: Train, device: torch.device) -> torch.dtype:
    """Return the dtype of `settings.precision`; for "auto" the faster of fp32 and bf16 autocast on this machine.

    Timed on a copy by forward and backward passes at the size of the first phase: of a small batch on a CPU, and of
    this process's share of a batch on an accelerator, which small ones leave idle. bf16 must be faster by a tenth,
    because it costs precision. The two take turns and each turn is judged separately, so that a moment in which the
    machine is busy doesn't decide the weights of a training.
    """
    if settings.precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[settings.precision]
    count = FEW if device.type == "cpu" else settings.batch // distributed.size()
    images = torch.zeros(count, 1, settings.phases[0].size, settings.phases[0].size, device=device)
    probe = deepcopy(model).train()
    turns = [[_seconds(probe, images, dtype) for dtype in (torch.float32, torch.bfloat16)] for _ in range(TURNS + 1)]
    return torch.bfloat16 if median(bf16 / fp32 for fp32, bf16 in turns[1:]) < 0.9 else torch.float32


def _seconds(model: nn.Module, images: torch.Tensor, dtype: torch.dtype) -> float:
    """Return the seconds that one forward and backward pass takes."""
    started = time.perf_counter()
    with autocast(images.device, dtype):
        logits = model(images.contiguous(memory_format=torch.channels_last))
    logits.float().square().sum().backward()
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
