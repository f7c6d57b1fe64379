"""Batch normalisation and SiLU as one step, against torch's two."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torchvision.models import efficientnet_b0

from mri.training.norm_silu import BatchNormSiLU, join_norm_and_silu


def pair(dtype=torch.float64):
    """Return torch's two modules with random weights, and the joined module with the same."""
    torch.manual_seed(0)
    two = nn.Sequential(nn.BatchNorm2d(3, eps=1e-3, momentum=0.2), nn.SiLU(inplace=True)).to(dtype)
    nn.init.uniform_(two[0].weight, 0.5, 2)
    nn.init.uniform_(two[0].bias, -1, 1)
    joined = copy.deepcopy(two)
    join_norm_and_silu(joined)
    return two, joined


def passed(module, images):
    """Return the output, and the gradients of a weighted sum of it with respect to images, weights and biases."""
    images = images.clone().requires_grad_()
    out = module(images)
    gradients = torch.autograd.grad(
        (out * torch.linspace(-1, 2, out.numel()).view_as(out)).sum(), [images, *module.parameters()]
    )
    return [out.detach(), *gradients]


def test_outputs_gradients_and_running_statistics_are_those_of_the_two_modules():
    two, joined = pair()
    for seed in range(3):
        images = torch.randn(4, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for actual, expected in zip(passed(joined, images), passed(two, images), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)
    assert two.state_dict().keys() == joined.state_dict().keys()
    assert all(torch.equal(value, joined.state_dict()[name]) for name, value in two.state_dict().items())
    torch.testing.assert_close(joined.eval()(images), two.eval()(images))


def test_the_gradient_is_that_of_finite_differences():
    joined = pair()[1]
    assert torch.autograd.gradcheck(joined, torch.randn(2, 3, 2, 2, dtype=torch.float64).requires_grad_())


def test_bf16_images_meet_fp32_weights():
    two, joined = pair(torch.float32)
    images = torch.randn(4, 3, 5, 6).bfloat16().contiguous(memory_format=torch.channels_last)
    for actual, expected in zip(passed(joined, images), passed(two, images), strict=True):
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.02)


def kept(module, images):
    """Count the tensors as large as the images that are kept for the backward pass."""
    counts = []
    with saved_tensors_hooks(lambda tensor: counts.append(tensor.numel()) or tensor, lambda tensor: tensor):
        module(images.requires_grad_())
    return sum(count == images.numel() for count in counts)


def test_it_keeps_one_tensor_where_two_modules_keep_two():
    two, joined = pair()
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert (kept(two, images), kept(joined, images)) == (2, 1)


def test_a_network_of_many_such_pairs_computes_the_same_under_the_same_names():
    torch.manual_seed(0)
    network = efficientnet_b0(num_classes=4).train()
    for module in network.modules():  # what is drawn by chance is drawn only once
        if hasattr(module, "p"):
            module.p = 0.0
    joined = copy.deepcopy(network)
    join_norm_and_silu(joined)
    assert sum(isinstance(module, BatchNormSiLU) for module in joined.modules()) == 33
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(joined(images), network(images))
    assert list(joined.state_dict()) == list(network.state_dict())


@pytest.mark.parametrize(
    "chain", [nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()), nn.Sequential(nn.SiLU(), nn.BatchNorm2d(2))]
)
def test_other_chains_stay_as_they_are(chain):
    before = list(chain)
    join_norm_and_silu(chain)
    assert list(chain) == before
