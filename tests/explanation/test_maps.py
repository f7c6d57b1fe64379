import copy
import functools
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from mri.base.errors import UserError
from mri.base.params import ArchitectureSpec
from mri.explanation import maps
from mri.explanation.maps import GuidedActivation, explain, explain_many
from mri.inference.gradcam import Cells, upsample
from mri.inference.methods import METHODS
from mri.networks import models
from tests.conftest import architecture

CONF = Path(__file__).parents[2] / "conf" / "model"
FOUR = ("resnet50", "resnet101", "efficientnet_b0", "efficientnet_b1")
RESNETS, EFFICIENTNETS = FOUR[:2], FOUR[2:]
SIZE = 64
IMAGES = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
TARGET = [2, 0, 3]


@functools.cache
def network(name: str) -> models.Classifier:
    """A random network with batch-norm statistics of real activations; without them, signals shrink to 1e-15."""
    if name == "mobilenet":
        spec = architecture(name, "mobilenet_v3_small", "features", "features.8")
    else:
        fields = yaml.safe_load((CONF / f"{name}.yaml").read_text())["architectures"][name]
        spec = ArchitectureSpec(name=name, **fields | {"options": {}})  # residual branches that start at 0 are no test
    model = models.build(spec, 4, seed=0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over batches
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model.train()(torch.rand(8, 1, SIZE, SIZE))
    return model.eval()


def exact(name: str) -> models.Classifier:
    """Return a copy in double precision, where no rounding flips a ReLU."""
    return copy.deepcopy(network(name)).double()


def last_module(model: models.Classifier, layer: str) -> nn.Module:
    module = model.network.get_submodule(layer)
    return module[-1] if isinstance(module, nn.Sequential) else module


def scaled_as_pytorch_grad_cam(grid: np.ndarray) -> np.ndarray:
    """Scale as pytorch-grad-cam does: to 0..1 on the grid, resize, to 0..1 again."""

    def stretched(maps: np.ndarray) -> np.ndarray:
        maps = maps - maps.min(axis=(1, 2), keepdims=True)
        return maps / (1e-7 + maps.max(axis=(1, 2), keepdims=True))

    return stretched(upsample(stretched(grid), (SIZE, SIZE)))


@pytest.mark.parametrize("layer", ["feature_layer", "fine_layer"])
@pytest.mark.parametrize("name", [*FOUR, "mobilenet"])
def test_gradcam_equals_pytorch_grad_cam(name, layer):
    grad_cam = pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam is a test dependency")
    model, layer = copy.deepcopy(network(name)), getattr(network(name).spec, layer)
    images, classes = IMAGES.repeat_interleave(4, dim=0), [0, 1, 2, 3] * len(IMAGES)
    with grad_cam.GradCAM(model, [last_module(model, layer)]) as reference:
        targets = [grad_cam.utils.model_targets.ClassifierOutputTarget(index) for index in classes]
        expected = reference(images.clone(), targets)
    grid = maps.gradcam_grid(network(name), images, torch.tensor(classes), layer)
    assert (grid.max(axis=(1, 2)) > 1e-5).mean() > 0.5
    np.testing.assert_allclose(scaled_as_pytorch_grad_cam(grid), expected, atol=1e-4)


@pytest.mark.parametrize("name", FOUR)
def test_closed_form_equals_the_gradient(name):
    model, target = network(name), torch.tensor(TARGET)
    with torch.no_grad():
        features = model.features(IMAGES)
    by_gradient = maps.gradcam_by_gradient(model, features, target)
    closed = maps.gradcam_grid(model, IMAGES, target)
    np.testing.assert_allclose(closed, by_gradient, rtol=1e-4, atol=1e-5 * closed.max())


def test_closed_form_makes_no_backward_pass(monkeypatch):
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a gradient was asked for"))
    assert explain(network("resnet50"), IMAGES, TARGET).any()


def test_every_kind_of_gradcam_is_drawn_on_its_own_grid():
    model = network("efficientnet_b0")
    target = torch.tensor(TARGET)
    coarse = maps.gradcam_grid(model, IMAGES, target)
    fine = maps.gradcam_grid(model, IMAGES, target, model.spec.fine_layer)
    assert coarse.shape == (3, 2, 2) and fine.shape == (3, 4, 4)
    cells = Cells(first=0, step=32)
    drawn = explain_many(model, IMAGES, TARGET, ["gradcam", "gradcam_aligned", "gradcam_fine"])
    np.testing.assert_array_equal(drawn["gradcam"], upsample(coarse, (SIZE, SIZE)))
    np.testing.assert_array_equal(drawn["gradcam_aligned"], upsample(coarse, (SIZE, SIZE), cells))
    np.testing.assert_array_equal(drawn["gradcam_fine"], upsample(fine, (SIZE, SIZE)))
    assert maps.grids_of(model, np.zeros((1, SIZE, SIZE), np.uint8)) == {
        "gradcam": maps.Grid((2, 2)),
        "gradcam_aligned": maps.Grid((2, 2), cells),
        "gradcam_fine": maps.Grid((4, 4)),
    }


@pytest.mark.parametrize("name", RESNETS)
def test_guided_backprop_equals_pytorch_grad_cam_on_resnets(name):
    grad_cam = pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam is a test dependency")
    model = exact(name)
    maps = explain(model, IMAGES, TARGET, "guided_backprop")
    for image, index, mine in zip(IMAGES.double(), TARGET, maps, strict=True):
        reference = grad_cam.GuidedBackpropReLUModel(copy.deepcopy(model))
        expected = np.abs(reference(image[None].clone(), index)[..., 0])
        assert expected.max() > 0
        np.testing.assert_allclose(mine, expected, rtol=1e-5)


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_replacing_relu_alone_would_return_the_plain_gradient_on_silu_networks(name):
    grad_cam = pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam is a test dependency")
    library = grad_cam.GuidedBackpropReLUModel(exact(name))(IMAGES[:1].double(), TARGET[0])[..., 0]
    plain = explain(exact(name), IMAGES[:1], TARGET[:1], "gradient")[0]
    np.testing.assert_allclose(np.abs(library), plain, rtol=1e-5)


@pytest.mark.parametrize("name", [*FOUR, "mobilenet"])
def test_guided_backprop_is_not_the_plain_gradient(name):
    maps = explain_many(network(name), IMAGES, TARGET, ["gradient", "guided_backprop"])
    assert all(values.max(axis=(1, 2)).min() > 0 for values in maps.values())
    correlation = np.corrcoef(maps["gradient"].ravel(), maps["guided_backprop"].ravel())[0, 1]
    assert correlation < 0.9


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.SiLU(inplace=True), nn.Hardswish(), nn.GELU()])
def test_guided_rule_passes_positive_evidence_of_active_units_times_the_slope(activation):
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0, 2.0], requires_grad=True)
    above = torch.tensor([1.0, 1.0, 1.0, 1.0, 3.0, -1.0])
    (passed,) = torch.autograd.grad(GuidedActivation(activation)(x), x, above)
    leaf = torch.tensor([0.5, 2.0], requires_grad=True)
    (slope,) = torch.autograd.grad(copy.deepcopy(activation)(leaf * 1).sum(), leaf)
    torch.testing.assert_close(passed, torch.tensor([0.0, 0.0, 0.0, slope[0], 3 * slope[1], 0.0]))


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.SiLU(inplace=True)])
def test_guided_activation_computes_the_same_and_spares_its_input(activation):
    x = torch.linspace(-3, 3, 7)
    expected = copy.deepcopy(activation)(x.clone())
    torch.testing.assert_close(GuidedActivation(activation)(x), expected)
    torch.testing.assert_close(x, torch.linspace(-3, 3, 7))
    assert activation.inplace


def test_silu_slope_is_the_textbook_one():
    x = torch.tensor([1.5], requires_grad=True)
    (passed,) = torch.autograd.grad(GuidedActivation(nn.SiLU())(x), x, torch.ones(1))
    s = torch.sigmoid(torch.tensor(1.5))
    torch.testing.assert_close(passed[0], s * (1 + 1.5 * (1 - s)))


def test_gradient_is_the_derivative_by_the_grey_value():
    model, images = exact("efficientnet_b0"), IMAGES[:1].double()
    attributed = explain(model, images, [1], "gradient")[0]
    row, column = np.unravel_index(attributed.argmax(), attributed.shape)
    step = torch.zeros_like(images)
    step[0, 0, row, column] = 1e-5
    with torch.no_grad():
        slope = (model(images + step) - model(images - step))[0, 1] / 2e-5
    assert abs(slope) == pytest.approx(attributed[row, column], rel=1e-3)


def test_guided_gradcam_is_the_product():
    maps = explain_many(network("resnet50"), IMAGES, TARGET)
    np.testing.assert_array_equal(maps["guided_gradcam"], maps["guided_backprop"] * maps["gradcam"])
    assert maps["guided_gradcam"].any()


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_raw_non_negative_float32_of_the_image_size(method):
    model = exact("efficientnet_b0")
    maps = explain(model, IMAGES, TARGET, method)
    assert (maps.shape, maps.dtype) == ((3, SIZE, SIZE), np.float32)
    assert maps.min() >= 0
    louder = copy.deepcopy(model)
    with torch.no_grad():
        louder.network.classifier[1].weight *= 2
    factor = 4 if method == "guided_gradcam" else 2
    np.testing.assert_allclose(explain(louder, IMAGES, TARGET, method), factor * maps, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_deterministic_and_independent_of_the_batch(method):
    first = explain(network("resnet50"), IMAGES, TARGET, method)
    np.testing.assert_array_equal(explain(network("resnet50"), IMAGES, TARGET, method), first)
    model = exact("resnet50")
    one_by_one = explain(model, IMAGES, TARGET, method, batch_size=1)
    np.testing.assert_allclose(one_by_one, explain(model, IMAGES, TARGET, method), rtol=1e-4)


def test_sharing_work_between_methods_changes_nothing():
    model = network("efficientnet_b0")
    together = explain_many(model, IMAGES, TARGET)
    assert list(together) == list(METHODS)
    for method, shared in together.items():
        np.testing.assert_array_equal(explain(model, IMAGES, TARGET, method), shared)


def test_without_a_target_the_predicted_class_is_explained():
    model = network("efficientnet_b0")
    with torch.no_grad():
        predicted = model(IMAGES).argmax(dim=1)
    np.testing.assert_array_equal(explain(model, IMAGES), explain(model, IMAGES, predicted))
    other = explain(model, IMAGES, (predicted + 1) % 4)
    assert not np.allclose(explain(model, IMAGES), other)


def test_numpy_images_are_accepted():
    model = network("efficientnet_b0")
    np.testing.assert_array_equal(explain(model, IMAGES.numpy(), np.array(TARGET)), explain(model, IMAGES, TARGET))


@pytest.mark.parametrize("method", METHODS)
def test_no_images_no_maps(method):
    assert explain(network("efficientnet_b0"), IMAGES[:0], method=method).shape == (0, SIZE, SIZE)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_explaining_works_where_gradients_are_off(context):
    model = network("efficientnet_b0")
    expected = explain_many(model, IMAGES, TARGET)
    with context():
        images = IMAGES + 0  # in inference mode a tensor that can't take part in a gradient
        maps = explain_many(model, images, TARGET)
    for method in METHODS:
        np.testing.assert_array_equal(maps[method], expected[method])


def fingerprint(model: nn.Module) -> list:
    state = [tensor.clone() for tensor in model.state_dict().values()]
    parameters = [(id(p), p.requires_grad, p.grad) for p in model.parameters()]
    modules = [(id(module), type(module), module.training) for module in model.modules()]
    hooks = [len(getattr(m, name)) for m in model.modules() for name in vars(m) if name.endswith("_hooks")]
    assert not any(hooks)
    return [state, parameters, modules]


def assert_unchanged(before: list, after: list) -> None:
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "mobilenet"])
def test_explaining_leaves_model_images_and_random_state_as_they_were(name):
    model, images = network(name), IMAGES.clone()
    before, states = fingerprint(model), (torch.get_rng_state(), np.random.get_state()[1], random.getstate())
    explain_many(model, images)
    assert_unchanged(before, fingerprint(model))
    assert torch.equal(images, IMAGES)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]


def test_failure_leaves_the_model_as_it_was():
    model = network("resnet50")
    before = fingerprint(model)
    with pytest.raises(RuntimeError):
        explain_many(model, torch.full((1, 1, 0, 0), 0.5), [0])
    assert_unchanged(before, fingerprint(model))


def test_threads_share_one_model():
    model = network("efficientnet_b0")
    methods = list(METHODS) * 3
    expected = explain_many(model, IMAGES, TARGET)
    with torch.inference_mode():
        logits = model(IMAGES)

    def predict(_: int) -> torch.Tensor:
        with torch.inference_mode():
            return model(IMAGES)

    with ThreadPoolExecutor(8) as pool:
        maps = pool.map(explain, repeat(model), repeat(IMAGES), repeat(TARGET), methods)
        predictions = pool.map(predict, range(6))
        for method, values in zip(methods, maps, strict=True):
            np.testing.assert_allclose(values, expected[method], rtol=1e-4, atol=1e-5 * expected[method].max())
        for answer in predictions:
            torch.testing.assert_close(answer, logits)


def test_guided_twin_shares_the_weights_and_follows_them():
    model = exact("efficientnet_b0")
    twin = maps._guided(maps._twin(model))
    assert {t.data_ptr() for t in twin.state_dict().values() if t.numel() > 1} == {
        t.data_ptr() for t in model.state_dict().values() if t.numel() > 1
    }
    before = explain(model, IMAGES, TARGET, "guided_backprop")
    with torch.no_grad():
        model.network.classifier[1].weight *= 3
    np.testing.assert_allclose(explain(model, IMAGES, TARGET, "guided_backprop"), 3 * before, rtol=1e-4)


def test_unknown_method_lists_the_known_ones():
    with pytest.raises(UserError, match=r"no explanation method 'lime': choose from gradcam, gradcam_aligned"):
        explain(network("efficientnet_b0"), IMAGES, method="lime")


def test_unknown_layer_lists_the_known_ones():
    with pytest.raises(UserError, match="no convolutional layer 'layer9'"):
        maps.gradcam_grid(network("efficientnet_b0"), IMAGES, torch.tensor(TARGET), "layer9")


@pytest.mark.parametrize("target", [[0], [0, 1, 4], [0, 1, -1], [0.0, 1.0, 2.0], 1])
def test_targets_that_do_not_fit_are_refused(target):
    with pytest.raises(ValueError, match="target"):
        explain(network("efficientnet_b0"), IMAGES, target)


def test_model_in_training_mode_is_refused():
    model = copy.deepcopy(network("efficientnet_b0"))
    model.network.features[0].train()
    with pytest.raises(ValueError, match="training mode"):
        explain(model, IMAGES, TARGET)


class Squash(nn.Module):
    """A chain without an activation module."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 3)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2, 4)

    def forward(self, x):
        return self.fc(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def test_guided_backprop_is_refused_where_there_is_nothing_to_guide():
    spec = architecture("squash", "none", "features", "features")
    with pytest.raises(UserError, match="squash has no activation module to guide"):
        explain(models.Classifier(Squash(), spec).eval(), IMAGES, TARGET, "guided_backprop")


@pytest.mark.parametrize("name", FOUR)
def test_gradient_and_gradcam_equal_captums(name):
    from captum import attr as captum

    model, images, target = exact(name), IMAGES.double(), torch.tensor(TARGET)
    saliency = captum.Saliency(model).attribute(images.clone().requires_grad_(), target)[:, 0].numpy()
    np.testing.assert_allclose(explain(exact(name), images, TARGET, "gradient"), saliency, rtol=1e-5)
    layer = captum.LayerGradCam(model, last_module(model, model.spec.feature_layer))
    grid = layer.attribute(images.clone(), target, relu_attributions=True)[:, 0].detach().numpy()
    np.testing.assert_allclose(maps.gradcam_grid(exact(name), images, target), grid, rtol=1e-4, atol=1e-6)
