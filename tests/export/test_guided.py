import numpy as np
import pytest
import torch

from mri.explanation.maps import guided_gradient
from mri.export import guided
from mri.export.guided import export_guided
from mri.export.openvino import export
from mri.inference.runtime import GUIDED, Runtime
from mri.networks import models
from mri.networks.predict import to_tensor
from tests.conftest import blobs
from tests.packages import CLASSES, network, settled

SIZE = 64


def difference(model, folder, target):
    """Return the relative difference of the exported graph's map from PyTorch's, on an image not used for its check."""
    pixels = blobs(2, SIZE, seed=1).pixels
    gradient = Runtime(folder, "fp32").guided_gradient(pixels[1], target)
    expected = guided_gradient(model, to_tensor(pixels[1:]), torch.tensor([target]))[0].numpy()
    assert expected.max() > 0
    return np.abs(gradient - expected).sum() / expected.sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet101", "efficientnet_b0", "efficientnet_b1"])
def test_the_exported_guided_gradient_is_pytorchs(name, params, tmp_path):
    model = settled(models.build(params.architecture(name), len(CLASSES), 0), SIZE)
    export(model, CLASSES, SIZE, tmp_path, {})
    assert export_guided(model, blobs(4, SIZE).pixels, tmp_path)
    assert difference(model, tmp_path, target=2) < 1e-3


def test_a_graph_that_does_not_give_pytorchs_map_is_not_written(tmp_path, monkeypatch):
    separate_weights = guided._separate_weights

    def damaged(traced):
        traced = separate_weights(traced)
        name = next(name for name, _ in traced.named_buffers() if name.startswith("backward"))
        getattr(traced, name).mul_(2)
        return traced

    monkeypatch.setattr(guided, "_separate_weights", damaged)
    assert not export_guided(network(0), blobs(4).pixels, tmp_path)
    assert not (tmp_path / GUIDED).exists()
