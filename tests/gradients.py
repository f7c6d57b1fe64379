"""Run by test_distributed under torchrun: the gradients of one batch, computed together, into the file named."""

import sys

import numpy as np
import torch
import torch.nn.functional as F

from mri.networks import models
from mri.training import distributed
from mri.training.trainer import to_batch
from tests.conftest import architecture, blobs

SPEC = architecture("small", "resnet18", "layer4", "layer3")


def gradients(batch: int = 8) -> torch.Tensor:
    """Return all gradients of one batch's mean loss, flattened. Batch norm uses its running statistics."""
    part = blobs(batch)
    indices = distributed.share(np.arange(batch))
    model = models.build(SPEC, 4, 0).eval()
    parallel = distributed.parallel(model)
    logits = parallel(to_batch(part.pixels[indices], 32))
    F.cross_entropy(logits, torch.from_numpy(part.labels[indices])).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.together():
        assert distributed.from_first({"rank": distributed.rank()}) == {"rank": 0}
        result = gradients()
        if distributed.rank() == 0:
            torch.save(result, sys.argv[1])
