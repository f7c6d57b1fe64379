"""Knowledge distillation (Hinton et al. 2015): a network learns from the predictions of trained ones.

A teacher's probabilities of the other classes help most with random initial weights and few images. The teacher sees
exactly the images that its student sees, equally augmented and mixed, and a student that only follows it needs no
labels (Beyer et al. 2022, "a good teacher is patient and consistent").
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mri.networks import models
from mri.networks.predict import folded

# Both sides' logits are divided by it, so that the teacher's small probabilities count.
TEMPERATURE = 2.0


class Teacher:
    """Trained networks from whose mean prediction a student learns."""

    def __init__(self, networks: Iterable[nn.Module]):
        self.networks = list(networks)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return probabilities, float32 (N, C), softened by `TEMPERATURE`, of images (N, 1, H, W) in [0, 1]."""
        probabilities = [(network(images) / TEMPERATURE).softmax(1) for network in self.networks]
        return torch.stack(probabilities).mean(0)


def load(folder: Path, device: torch.device | str = "cpu") -> Teacher | None:
    """Load the models in the folders below `folder` (see `mri.networks.models.save`) as a teacher; None without any."""
    networks = [models.load(path.parent).model for path in sorted(folder.glob(f"*/{models.CARD_FILE}"))]
    return Teacher(folded(network).to(device) for network in networks) if networks else None


def distillation_loss(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy to the teacher's softened probabilities, on the scale of the loss of hard labels.

    logits, taught: (N, C). The squared temperature compensates for its effect on the size of gradients.
    """
    return F.cross_entropy(logits / TEMPERATURE, taught) * TEMPERATURE**2
