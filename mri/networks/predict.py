"""Inference with a PyTorch network: the reference with which every faster runtime is compared."""

from __future__ import annotations

import numpy as np
import torch
from torch.fx.experimental.optimization import fuse

from mri.data.dataset import batches
from mri.networks.models import Classifier


def to_tensor(pixels: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """Convert uint8 (N, S, S) to float32 (N, 1, S, S) in [0, 1], channels-last, on `device`."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).unsqueeze(1).float().div_(255)
    return images.contiguous(memory_format=torch.channels_last)


def folded(model: Classifier) -> Classifier:
    """Return a faster copy of a model in eval mode, with its batch norms folded into the convolutions."""
    return Classifier(fuse(model.network), model.spec).eval().to(memory_format=torch.channels_last)


def predict_logits(model: Classifier, pixels: np.ndarray, batch: int = 32) -> np.ndarray:
    """Return the logits, float32 (N, C), of uint8 (N, S, S) images, in fp32 whatever precision training used."""
    model = model.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        return np.concatenate([model(to_tensor(pixels[part])).numpy() for part in batches(len(pixels), batch)])
