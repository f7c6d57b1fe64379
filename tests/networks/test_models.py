import copy
import functools
import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError
from torchvision.ops import SqueezeExcitation

from mri.base.errors import UserError
from mri.base.params import ArchitectureSpec
from mri.networks import models
from tests.conftest import architecture

CONF = Path(__file__).parents[2] / "conf" / "model"
CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
MOBILENET = architecture("mobilenet", "mobilenet_v3_small", "features", "features.8")


def spec_of(name: str) -> ArchitectureSpec:
    if name == "mobilenet":
        return MOBILENET
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text())["architectures"]
    return ArchitectureSpec(name=name, **content[name])


@functools.cache
def network(name: str) -> models.Classifier:
    return models.build(spec_of(name), len(CLASSES), seed=0).eval()


FOUR = ("resnet50", "resnet101", "efficientnet_b0", "efficientnet_b1")
IMAGES = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_group_all_merges_the_four_and_one_alone_selects_one(tmp_path):
    (tmp_path / "config.yaml").write_text("defaults: [{model: all}, _self_]\n")
    (tmp_path / "model").symlink_to(CONF)
    with initialize_config_dir(str(tmp_path), version_base=None):
        everything = OmegaConf.to_container(compose("config"))
        alone = OmegaConf.to_container(compose("config", ["model=efficientnet_b1"]))
    assert list(everything) == ["model"]
    assert tuple(everything["model"]["architectures"]) == FOUR
    assert list(alone["model"]["architectures"]) == ["efficientnet_b1"]


@pytest.mark.parametrize(
    ("name", "parameters", "cost"),
    [
        ("resnet50", 23_516_228, 4.087),
        ("resnet101", 42_508_356, 7.799),
        ("efficientnet_b0", 4_012_672, 0.385),
        ("efficientnet_b1", 6_518_308, 0.568),
    ],
)
def test_size_and_cost_are_the_published_ones(name, parameters, cost):
    model = network(name)
    assert models.parameter_count(model) == parameters
    assert round(models.gmac(model, 224), 3) == cost


def test_counting_cost_leaves_the_model_alone():
    model = copy.deepcopy(network("efficientnet_b0")).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    models.gmac(model, 64)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_same_seed_builds_the_same_network_and_moves_no_global_random_state():
    state = torch.get_rng_state()
    spec = spec_of("efficientnet_b0")
    first, again, other = (models.build(spec, 4, seed).state_dict() for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["network.classifier.1.weight"], other["network.classifier.1.weight"])


def test_network_inside_is_torchvisions_own():
    state = network("resnet50").network.state_dict()
    assert state["fc.weight"].shape == (4, 2048)
    assert "layer4.2.conv3.weight" in state


def test_unknown_builder_lists_near_matches():
    with pytest.raises(UserError, match=r"has no 'resnet5'.*resnet50"):
        models.build(spec_of("resnet50").model_copy(update={"builder": "resnet5"}), 4, 0)


def test_options_reach_the_builder_and_unknown_ones_are_refused():
    spec = spec_of("resnet50").model_copy(update={"options": {"zero_init_residual": True}})
    assert not models.build(spec, 4, 0).network.layer1[0].bn3.weight.any()
    with pytest.raises(UserError, match=r"resnet50.*zero_init"):
        models.build(spec.model_copy(update={"options": {"zero_init": True}}), 4, 0)


def test_unknown_layer_lists_the_layers():
    with pytest.raises(UserError, match=r"no convolutional layer 'layer5'.*layer3, layer4"):
        models.build(spec_of("resnet50").model_copy(update={"feature_layer": "layer5"}), 4, 0)


def test_the_head_is_not_a_feature_layer():
    with pytest.raises(UserError, match="no convolutional layer 'fc'"):
        network("resnet50").features(IMAGES, "fc")


@pytest.mark.parametrize("builder", ["densenet121", "squeezenet1_1"])
def test_network_that_is_no_chain_of_modules_is_refused(builder):
    with pytest.raises(UserError, match=f"{builder} is not a plain chain of modules"):
        models.build(architecture("odd", builder, "features", "features.0"), 4, 0)


@pytest.mark.parametrize("name", [*FOUR, "mobilenet"])
def test_features_come_with_the_logits_of_the_plain_forward_pass(name):
    model = network(name)
    with torch.inference_mode():
        coarse, logits = model.features_and_logits(IMAGES)
        fine, same = model.features_and_logits(IMAGES, model.spec.fine_layer)
        expected = model(IMAGES)
    assert coarse.shape[2:] == (2, 2)
    assert fine.shape[2:] == (4, 4)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(same, expected)


@pytest.mark.parametrize(("name", "layer"), [("resnet50", "layer2"), ("efficientnet_b0", "features.3")])
def test_cells_are_centred_where_they_look(name, layer):
    model = copy.deepcopy(network(name))
    for parent in list(model.modules()):
        for key, child in parent.named_children():
            if isinstance(child, SqueezeExcitation):  # lets every cell look everywhere
                setattr(parent, key, torch.nn.Identity())
            elif isinstance(child, torch.nn.MaxPool2d):  # of equal pixels it looks at the first alone
                setattr(parent, key, torch.nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    for weights in model.parameters():
        weights.data.abs_()  # so that nothing cancels on the way back
    image = torch.full((1, 1, 256, 256), 0.9, requires_grad=True)
    features = model.features(image, layer)
    first, step = model.cells(layer)
    assert features.shape[3] == 256 / step
    for i in (14, 17):
        (gradient,) = torch.autograd.grad(features[0, :, 16, i].sum(), image, retain_graph=True)
        seen = gradient[0, 0].any(dim=0).nonzero()
        assert (seen.min() + seen.max()) / 2 == first + i * step


def test_features_before_an_inplace_activation_are_not_overwritten():
    model = network("resnet50")
    with torch.inference_mode():
        features, _ = model.features_and_logits(IMAGES, "bn1")
        expected = model.network.bn1(model.network.conv1(model.normalise(IMAGES)))
    assert features.min() < 0
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("name", FOUR)
def test_linear_head_is_weights_times_mean_features(name):
    model = network(name)
    assert model.is_linear_head
    assert model.classes == 4
    with torch.inference_mode():
        features, logits = model.features_and_logits(IMAGES)
        bias = list(model.parameters())[-1]
        torch.testing.assert_close(features.mean(dim=(2, 3)) @ model.head_weights.T + bias, logits)


def test_two_layer_head_has_no_closed_form():
    model = network("mobilenet")
    assert not model.is_linear_head
    assert model.classes == 4
    with pytest.raises(ValueError, match="no closed form"):
        _ = model.head_weights


def test_input_is_normalised_inside_and_colour_is_refused():
    model = network("resnet50")
    grey = model.normalise(torch.full((1, 1, 2, 2), 0.5))
    expected = [(0.5 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    torch.testing.assert_close(grey[0, :, 0, 0], torch.tensor(expected))
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\), got \(1, 3, 64, 64\)"):
        model(torch.zeros(1, 3, 64, 64))


def test_a_description_with_nonsense_in_it_is_refused():
    fields = spec_of("resnet50").model_dump()
    with pytest.raises(ValidationError, match="std must be positive"):
        ArchitectureSpec(**fields | {"std": (0.229, 0.224, 0)})
    with pytest.raises(ValidationError, match="Extra inputs"):
        ArchitectureSpec(**fields | {"input": 224})


@pytest.fixture
def saved(tmp_path) -> Path:
    model = network("efficientnet_b0")
    models.save(model, CLASSES, 96, tmp_path / "b0", {"data": "phantom", "temperature": 1.5})
    return tmp_path / "b0"


def test_saved_model_comes_back_the_same(saved):
    model = network("efficientnet_b0")
    loaded = models.load(saved)
    assert (loaded.model.spec, loaded.classes) == (model.spec, CLASSES)
    assert loaded.extra == {"data": "phantom", "temperature": 1.5}
    assert not loaded.model.training
    with torch.inference_mode():
        assert torch.equal(loaded.model(IMAGES), model(IMAGES))


def test_loading_moves_no_global_random_state(saved):
    state = torch.get_rng_state()
    models.load(saved)
    assert torch.equal(torch.get_rng_state(), state)


def test_channels_last_weights_are_saved_too(tmp_path):
    model = copy.deepcopy(network("efficientnet_b0")).to(memory_format=torch.channels_last)
    models.save(model, CLASSES, 96, tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(models.load(tmp_path).model(IMAGES), network("efficientnet_b0")(IMAGES))


def test_card_tells_a_user_what_the_model_reads(saved):
    card = json.loads((saved / models.CARD_FILE).read_text())
    assert card["input"]["layout"] == "N,1,H,W"
    assert card["input"]["range"] == [0, 1]
    assert card["input"]["size"] == 96
    assert card["input"]["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    assert card["parameters"] == 4_012_672


@pytest.mark.parametrize("damage", [lambda data: data[:-1000], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_damaged_weights_are_refused(saved, damage):
    path = saved / models.WEIGHTS_FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        models.load(saved)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 99}'])
def test_damaged_card_is_refused(saved, text):
    (saved / models.CARD_FILE).write_text(text)
    with pytest.raises(UserError, match=r"model\.json"):
        models.load(saved)


@pytest.mark.parametrize("name", [models.CARD_FILE, models.WEIGHTS_FILE])
def test_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"{name} does not exist"):
        models.load(saved)


def rewrite_card(folder: Path, **changes) -> None:
    path = folder / models.CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_weights_of_another_shape_are_refused(saved):
    rewrite_card(saved, classes=["tumour", "none"])
    with pytest.raises(UserError, match="does not hold the weights of efficientnet_b0 for 2 classes"):
        models.load(saved)


class Trap:
    """Creates a file when unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickled_weights_are_never_unpickled(saved, tmp_path):
    sprung = tmp_path / "sprung"
    data = pickle.dumps(Trap(sprung))
    (saved / models.WEIGHTS_FILE).write_bytes(data)
    rewrite_card(saved, weights={"file": models.WEIGHTS_FILE, "sha256": hashlib.sha256(data).hexdigest()})
    with pytest.raises(UserError, match="does not hold the weights"):
        models.load(saved)
    assert not sprung.exists()
    pickle.loads(data)
    assert sprung.exists()  # the trap works
