"""What stages do themselves, apart from the library that they call; tests/test_pipeline.py runs them whole."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mri import dataset, models
from mri.ood_inputs import FAR, NEAR
from mri.params import Params
from mri.paths import PREDICTIONS, SHOWN
from mri.viewer import viewer
from stages import consensus, explain, mistakes, robustness
from tests.conftest import blobs

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
DATA = [("phantom", "phantom (synthetic images)"), ("local", "phantom")]


@pytest.fixture
def network(small_spec):
    return models.build(small_spec, 4, seed=0).eval()


@pytest.fixture
def sheets(monkeypatch, tmp_path):
    """Every sheet that a stage of these saves, in order; in a folder of their own."""
    found: list[Figure] = []
    monkeypatch.chdir(tmp_path)
    for stage in (consensus, explain, mistakes):
        monkeypatch.setattr(stage, "save", lambda figure, path: found.append(figure))
    return found


def of(params: Params, source: str) -> Params:
    """The parameters with a dataset that is called "phantom" and comes from `source`."""
    return params.model_copy(update={"data": params.data.model_copy(update={"name": "phantom", "source": source})})


@pytest.fixture
def data(sheets) -> dataset.Dataset:
    """Two test images of every class, of which a network calls the second wrongly, and no mask."""
    part = blobs(8)
    frame = part.index.assign(label=[CLASSES[i] for i in part.labels], row=range(8), mask_row=-1, split="test")
    called = np.concatenate([np.eye(4), np.roll(np.eye(4), 1, axis=1)])
    table = pd.DataFrame(called, columns=[f"p_{name}" for name in CLASSES]).assign(id=frame["id"])
    PREDICTIONS.mkdir(parents=True)
    for name in ("small", "other"):
        table.to_csv(PREDICTIONS / f"{name}.csv", index=False)
    return dataset.Dataset(frame, part.pixels, np.zeros((0, 1, 1), bool), CLASSES)


@pytest.mark.parametrize(("source", "ending"), DATA)
def test_a_sheet_of_explanations_shows_right_and_wrong_calls_and_says_that_images_are_synthetic(
    params, sheets, network, data, source, ending
):
    explain._sheet(of(params, source), "small", data, network)
    assert [sheet.get_suptitle() for sheet in sheets] == [f"small on {ending}"]
    said = [axis.get_ylabel().split("\n")[1][:5] for axis in sheets[0].axes if axis.get_ylabel()]
    assert said == ["right"] * 3 + ["wrong"] * 3


@pytest.mark.parametrize(("source", "ending"), DATA)
def test_every_class_has_a_sheet_of_the_consensus_that_says_that_images_are_synthetic(
    params, sheets, network, data, source, ending
):
    consensus._show(of(params, source), data, {"small": network, "other": network}, "small")
    titles = [sheet.get_suptitle() for sheet in sheets]
    assert [title.split(":")[0] for title in titles] == CLASSES
    assert all(title.endswith(f" together, on {ending}") for title in titles)
    free = [axis.get_ylabel().rsplit("\n", 1)[0] for axis in sheets[2].axes if axis.get_ylabel()]
    assert free == ["notumor\nright, called notumor", "notumor\nwrong, called pituitary"]


def test_the_report_s_viewer_gets_right_and_wrong_calls_of_every_class(params, sheets, network, data):
    consensus._show(params, data, {"small": network}, "small")
    shown = viewer(data, SHOWN, ["small"])
    calls = [(image["label"], image["called"]) for image in shown["images"]]
    assert calls == [(name, name) for name in CLASSES] + list(zip(CLASSES, np.roll(CLASSES, -1), strict=True))
    assert shown["methods"] == params.explain.methods


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
