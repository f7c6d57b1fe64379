import copy

import numpy as np
import pytest
import torch

from mri.base import hardware
from mri.explanation import faithfulness
from mri.explanation.faithfulness import mass_outside_head, summarise
from mri.explanation.maps import explain
from mri.explanation.scores import empty
from mri.inference.consensus import spearman
from mri.inference.methods import METHODS
from mri.networks import models
from mri.networks.predict import to_tensor

SOME = ["gradcam", "gradcam_fine", "guided_gradcam"]


@pytest.fixture
def model(small_spec) -> models.Classifier:
    return models.build(small_spec, 4, seed=0).eval()


@pytest.fixture
def pixels() -> np.ndarray:
    """Four pictures, uint8 (4, 64, 64): on black a bright square of half the side, containing a darker one."""
    pictures = np.zeros((4, 64, 64), np.uint8)
    pictures[:, 16:48, 16:48] = 200
    for i in range(4):
        pictures[i, 20 + 4 * i : 28 + 4 * i, 20:28] = 90
    return pictures


def test_every_score_of_every_method_has_a_value_and_an_interval(model, pixels):
    scores = summarise(model, pixels, np.arange(4), SOME, 100, seed=1)
    assert scores["n"] == 4 and list(scores["methods"]) == SOME
    for row in scores["methods"].values():
        for score in ("road", "deletion", "insertion", "max_sensitivity", "gini", "entropy"):
            assert row[score]["low"] <= row[score]["value"] <= row[score]["high"]
        assert 0 <= row["deletion"]["chance"] <= 1 and 0 <= row["insertion"]["chance"] <= 1


def test_scores_are_the_same_again_and_leave_the_model_alone(model, pixels):
    before = copy.deepcopy(model.state_dict())
    first, second = (summarise(model, pixels, np.arange(4), ["gradcam"], 100, seed=1) for _ in range(2))
    assert first == second
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_method_that_ignores_the_network_fails_the_randomisation_test(model, pixels, monkeypatch):
    def edges(model, images, target, methods):
        maps = np.abs(np.gradient(np.asarray(images)[:, 0], axis=1)).astype(np.float32)
        return dict.fromkeys(methods, maps)

    monkeypatch.setattr(faithfulness, "explain_many", edges)
    check = summarise(model, pixels, np.arange(4), ["gradcam"], 100, seed=0)["methods"]["gradcam"]["randomisation"]
    assert not check["passed"]
    assert check["ssim"] == pytest.approx(1) and check["spearman"] == pytest.approx(1)


def test_a_random_network_has_logits_of_a_usual_size_and_maps_that_are_not_empty(small_spec, pixels):
    """A new ResNet101's activations grow from layer to layer until one class is all it knows and its maps are empty."""
    deep = models.build(small_spec.model_copy(update={"builder": "resnet101"}), 4, seed=0).eval()
    images = to_tensor(pixels)
    settled = faithfulness.random_network(deep, images.numpy(), seed=0)
    with torch.inference_mode():
        assert deep(images).abs().max() > 100 and 0.01 < settled(images).abs().max() < 10
    maps = [explain(settled, images, np.full(4, target)) for target in range(4)]
    assert np.mean([empty(values) for values in maps]) < 0.5


def test_random_networks_differ_though_a_recipe_starts_residual_branches_at_nothing(small_spec, pixels):
    spec = small_spec.model_copy(update={"builder": "resnet50", "options": {"zero_init_residual": True}})
    model, images = models.build(spec, 4, seed=0).eval(), to_tensor(pixels).numpy()
    first, second = (
        explain(faithfulness.random_network(model, images, seed), images, np.zeros(4, int), "gradient")
        for seed in (1, 2)
    )
    assert spearman(first, second).max() < 0.9


def test_each_score_of_changed_images_is_held_against_the_best_trivial_map(model, pixels):
    scores = summarise(model, pixels, np.arange(4), ["gradcam"], 100, seed=1)
    trivial = {name: row["deletion"]["value"] for name, row in scores["baselines"].items()}
    deletion = scores["methods"]["gradcam"]["deletion"]
    assert deletion["over_trivial"]["best"] == min(trivial, key=trivial.get)  # the less is left, the better
    assert deletion["over_trivial"]["value"] == pytest.approx(min(trivial.values()) - deletion["value"])
    assert deletion["over_chance"]["value"] == pytest.approx(trivial["random"] - deletion["value"])
    road = scores["methods"]["gradcam"]["road"]
    best = max(row["road"]["value"] for row in scores["baselines"].values())
    assert road["over_trivial"]["value"] == pytest.approx(road["value"] - best)


def test_trivial_maps_stand_beside_the_methods(model, pixels):
    scores = summarise(model, pixels, np.arange(4), ["gradcam"], 100, seed=1)
    assert list(scores["baselines"]) == ["random", "gaussian", "sobel", "intensity"]
    assert scores["baselines"]["random"]["road"]["value"] == scores["methods"]["gradcam"]["road"]["chance"]


def test_mass_outside_the_head_is_held_against_the_backgrounds_share(model, pixels):
    result = mass_outside_head(model, pixels, np.arange(4), list(METHODS), 100, seed=0)
    assert result["chance"] == 1 - 32 * 32 / (64 * 64)
    assert list(result["methods"]) == list(METHODS)
    for row in result["methods"].values():
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        assert 0 <= row["empty"] < 1


@pytest.mark.parametrize(
    ("builder", "extensions", "expected"),
    [
        ("resnet18", "avx512_bf16", torch.bfloat16),
        ("resnet18", "amx_bf16", torch.bfloat16),
        ("resnet18", "avx512f", torch.float32),
        ("efficientnet_b0", "amx_bf16", torch.float32),
    ],
)
def test_bf16_is_for_full_convolutions_on_processors_that_have_it(
    small_spec, monkeypatch, builder, extensions, expected
):
    monkeypatch.setattr(hardware, "describe", lambda: {"extensions": extensions})
    layers = {"feature_layer": "features", "fine_layer": "features.5"} if builder != "resnet18" else {}
    network = models.build(small_spec.model_copy(update={"builder": builder, **layers}), 4, seed=0)
    assert faithfulness.precision(network) == expected


def test_probabilities_are_the_networks_own_with_its_batch_norm_folded_in(small_spec, pixels, monkeypatch):
    monkeypatch.setattr(hardware, "describe", lambda: {"extensions": ""})
    images = to_tensor(pixels)
    network = faithfulness.random_network(models.build(small_spec, 4, seed=0), images.numpy(), seed=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.inference_mode():
        expected = network(images).softmax(1).numpy()
    np.testing.assert_allclose(faithfulness.predictor(network)(images.numpy()), expected, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_probabilities_in_bf16_are_those_of_fp32_within_a_hundredth(model, pixels, monkeypatch):
    images = to_tensor(pixels).numpy()
    probabilities = {}
    for extensions in ("", "avx512_bf16"):
        monkeypatch.setattr(hardware, "describe", lambda extensions=extensions: {"extensions": extensions})
        probabilities[extensions] = faithfulness.predictor(model)(images)
    assert probabilities[""].shape == (4, 4) and probabilities[""].sum(1) == pytest.approx(np.ones(4))
    assert 0 < np.abs(probabilities["avx512_bf16"] - probabilities[""]).max() < 0.01
