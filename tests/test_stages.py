"""What stages do themselves, apart from the library that they call; tests/test_pipeline.py runs them whole."""

import numpy as np
import pandas as pd
import pytest

from mri import dataset, models
from mri.consensus import combine
from mri.ood_inputs import FAR, NEAR
from mri.params import Params
from stages import consensus, explain, mistakes, robustness
from tests.conftest import blobs

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
DATA = [("phantom", "phantom (synthetic images)"), ("local", "phantom")]


@pytest.fixture
def network(small_spec):
    return models.build(small_spec, 4, seed=0).eval()


@pytest.fixture
def titles(monkeypatch, tmp_path):
    """The title of every sheet that a stage of these saves, in order; nothing is written."""
    found: list[str] = []
    monkeypatch.chdir(tmp_path)
    for stage in (consensus, explain, mistakes):
        monkeypatch.setattr(stage, "save", lambda figure, path: found.append(figure.get_suptitle()))
    return found


def of(params: Params, source: str) -> Params:
    """The parameters with a dataset that is called "phantom" and comes from `source`."""
    return params.model_copy(update={"data": params.data.model_copy(update={"name": "phantom", "source": source})})


@pytest.mark.parametrize(("source", "ending"), DATA)
def test_sheets_of_explanations_say_that_images_are_synthetic(params, titles, source, ending):
    part, masks = blobs(4), np.zeros((4, 32, 32), bool)
    maps = {"gradcam": np.ones((4, 32, 32))}
    explain._sheet(of(params, source), "small", part.pixels, masks, maps, np.eye(4), [CLASSES[i] for i in part.labels])
    assert titles == [f"small on {ending}"]


@pytest.mark.parametrize(("source", "ending"), DATA)
def test_sheets_of_the_consensus_say_that_images_are_synthetic(params, titles, network, source, ending):
    part, masks = blobs(2), np.zeros((2, 32, 32), bool)
    called = consensus.Called(pd.DataFrame({"label": CLASSES[:2]}), part.pixels, masks, part.labels)
    combined = combine(np.random.default_rng(0).random((2, 2, 32, 32)), np.full((2, 2), 0.5))
    consensus._sheets(of(params, source), called, network, combined)
    assert [title.split(":")[0] for title in titles] == CLASSES[:2]
    assert all(title.endswith(f" together, on {ending}") for title in titles)


@pytest.mark.parametrize(("source", "ending"), DATA)
def test_the_sheet_of_mistakes_says_that_images_are_synthetic(params, source, ending):
    assert mistakes._title(of(params, source), "b0 makes no mistake") == f"b0 makes no mistake: {ending}"


def test_spoiled_test_images_are_resampled_with_the_groups_that_they_come_from(params, network, tmp_path, monkeypatch):
    """All test images are one patient's, whom every resample draws: nothing that is made from them can vary."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(robustness, "NEAR", {kind: NEAR[kind] for kind in ("upside_down", "motion")})
    monkeypatch.setattr(robustness, "FAR", {"noise": FAR["noise"]})
    part = blobs(40)
    frame = pd.DataFrame({"label": [CLASSES[i] for i in part.labels], "row": range(40), "group": "one patient"})
    frame["split"] = np.repeat(["train", "val", "test"], [20, 10, 10])
    data = dataset.Dataset(frame, part.pixels, np.zeros((0, 1, 1), bool), CLASSES)
    near = robustness._gate(params, "small", network, data, data.part("test"))["near"]
    for kind in ("all", "upside_down", "motion"):
        auroc = near[kind]["auroc"]
        assert auroc["low"] == auroc["value"] == auroc["high"] < 1, kind
