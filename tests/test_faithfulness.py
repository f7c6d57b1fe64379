import copy

import numpy as np
import pytest
import torch

from mri import models
from mri.explanations import LEGAL
from mri.faithfulness import mass_outside_head, summarise

METHODS = ["gradcam", "gradcam_fine", "guided_gradcam"]


@pytest.fixture
def model(small_spec) -> models.Classifier:
    return models.build(small_spec, 4, seed=0).eval()


@pytest.fixture
def pixels() -> np.ndarray:
    """Four pictures, uint8 (4, 64, 64): a bright square of half the side, with a darker one in it, on black."""
    made = np.zeros((4, 64, 64), np.uint8)
    made[:, 16:48, 16:48] = 200
    for i in range(4):
        made[i, 20 + 4 * i : 28 + 4 * i, 20:28] = 90
    return made


def test_every_score_of_every_method_has_a_value_and_an_interval(model, pixels):
    found = summarise(model, pixels, np.arange(4), METHODS, 100, seed=1)
    assert found["n"] == 4 and list(found["methods"]) == METHODS
    for row in found["methods"].values():
        for score in ("road", "deletion", "insertion", "max_sensitivity", "gini", "entropy"):
            assert row[score]["low"] <= row[score]["value"] <= row[score]["high"]
        assert 0 <= row["deletion"]["chance"] <= 1 and 0 <= row["insertion"]["chance"] <= 1


def test_scores_are_the_same_again_and_leave_the_model_alone(model, pixels):
    before = copy.deepcopy(model.state_dict())
    first, second = (summarise(model, pixels, np.arange(4), ["gradcam"], 100, seed=1) for _ in range(2))
    assert first == second
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_network_that_is_random_itself_fails_the_randomisation_test(model, pixels):
    """Its seed is that of the random one it is compared with, so both draw the same maps."""
    check = summarise(model, pixels, np.arange(4), ["gradcam"], 100, seed=0)["methods"]["gradcam"]["randomisation"]
    assert not check["passed"]
    assert check["ssim"] == pytest.approx(1) and check["spearman"] == pytest.approx(1)


def test_mass_outside_the_head_is_held_against_the_backgrounds_share(model, pixels):
    found = mass_outside_head(model, pixels, np.arange(4), LEGAL, 100, seed=0)
    assert found["chance"] == 1 - 32 * 32 / (64 * 64)
    assert list(found["methods"]) == LEGAL
    for row in found["methods"].values():
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
