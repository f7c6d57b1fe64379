"""Being right for the right reason: a loss that asks Grad-CAM to lie in the tumour, where it is outlined.

Ross et al. (2017) penalise input gradients outside a mask, GAIN (Li et al. 2018) and GradMask (Simpson et al. 2019)
supervise attention maps. For a network that ends in global average pooling and one linear layer Grad-CAM has a closed
form, the class's weights times the features, so the loss needs no second backward pass.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mri.inference.gradcam import Cells, bilinear_weights

# A cell belongs to the tumour when it holds at least this share of what the tumour's fullest cell holds.
INSIDE = 0.25
EPSILON = 1e-6


def class_evidence(features: torch.Tensor, weights: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return what each cell adds to the logit of an image's class, (N, h, w): Grad-CAM before its rectifier.

    features: (N, K, h, w). weights: (C, K), of the linear head. classes: int64 (N,).
    """
    return torch.einsum("nk,nkhw->nhw", weights[classes].float(), features.float())


def tumour_in_cells(outlines: torch.Tensor, shape: tuple[int, int], cells: Cells) -> torch.Tensor:
    """Return the share of each cell that is tumour, (N, h, w) in [0, 1].

    A cell's pixels are those that it is drawn on, weighted as `mri.inference.gradcam.upsample` draws them, so maps are
    supervised where they are shown. outlines: (N, 1, H, W) in [0, 1].
    """
    drawn = [
        torch.from_numpy(bilinear_weights(n, m, cells).copy()).to(outlines)
        for n, m in zip(shape, outlines.shape[2:], strict=True)
    ]
    rows, columns = (weights / weights.sum(0) for weights in drawn)
    return rows.T @ outlines[:, 0] @ columns


def look_loss(evidence: torch.Tensor, tumour: torch.Tensor) -> torch.Tensor:
    """Return the mean over images of -log(share of Grad-CAM's mass in the tumour's cells); 0 for one without a tumour.

    evidence: (N, h, w), see `class_evidence`. tumour: (N, h, w), see `tumour_in_cells`.
    """
    fullest = tumour.amax((1, 2), keepdim=True)
    inside = (tumour >= INSIDE * fullest) & (fullest > EPSILON)
    mass = F.relu(evidence)
    share = (mass * inside).sum((1, 2)) / (mass.sum((1, 2)) + EPSILON)
    return (-(share + EPSILON).log() * inside.any(2).any(1)).mean()
