"""The stages' own code, apart from the library they call; tests/pipeline/test_pipeline.py runs them whole."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mri.base.files import read_json, write_json
from mri.base.params import Params
from mri.base.paths import PREDICTIONS, SHOWN
from mri.data import dataset
from mri.evaluation.strange_images import FAR, NEAR
from mri.evaluation.subgroups import COPY, NONE
from mri.networks import models
from mri.report.viewer import viewer
from stages import consensus, evaluate, explain, export, robustness
from tests.conftest import blobs

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
DATA = [("phantom", "phantom (synthetic images)"), ("local", "phantom")]


@pytest.fixture
def network(small_spec):
    return models.build(small_spec, 4, seed=0).eval()


@pytest.fixture
def sheets(monkeypatch, tmp_path):
    """The sheets that stages save, in order; in a temporary folder."""
    saved: list[Figure] = []
    monkeypatch.chdir(tmp_path)
    for stage in (consensus, explain):
        monkeypatch.setattr(stage, "save", lambda figure, path: saved.append(figure))
    return saved


def with_source(params: Params, source: str) -> Params:
    """Return the parameters with a dataset called "phantom" that comes from `source`."""
    return params.model_copy(update={"data": params.data.model_copy(update={"name": "phantom", "source": source})})


@pytest.fixture
def data(sheets) -> dataset.Dataset:
    """Two test images per class, the second misclassified by both networks, and no masks."""
    part = blobs(8)
    frame = part.index.assign(label=[CLASSES[i] for i in part.labels], row=range(8), mask_row=-1, split="test")
    called = np.concatenate([np.eye(4), np.roll(np.eye(4), 1, axis=1)])
    table = pd.DataFrame(called, columns=[f"p_{name}" for name in CLASSES]).assign(id=frame["id"])
    PREDICTIONS.mkdir(parents=True)
    for name in ("small", "other"):
        table.to_csv(PREDICTIONS / f"{name}.csv", index=False)
    return dataset.Dataset(frame, part.pixels, np.zeros((0, 1, 1), bool), CLASSES)


def test_test_images_that_training_has_no_relative_of_may_be_of_one_class(params, tmp_path):
    """The other classes have no recall there, and NaN can't be written."""
    table = pd.DataFrame({"label": CLASSES * 10, "group": range(40), "source": "a", "plane": "", "lesion": np.nan})
    table[[f"p_{name}" for name in CLASSES]] = np.tile(np.eye(4) * 0.9 + 0.025, (10, 1))
    unseen = table["label"] == "meningioma"
    metrics = evaluate._metrics(params, table, table.assign(relatives=np.where(unseen, NONE, COPY)))
    write_json(metrics, tmp_path / "metrics.json")
    parts = read_json(tmp_path / "metrics.json")["test_by"]["relatives"]
    assert {name: (row["n"], row["accuracy"]["value"]) for name, row in parts.items()} == {COPY: (30, 1), NONE: (10, 1)}


@pytest.mark.parametrize(("source", "ending"), DATA)
def test_a_sheet_of_explanations_shows_right_and_wrong_calls_and_says_that_images_are_synthetic(
    params, sheets, network, data, source, ending
):
    explain._show(with_source(params, source), "small", data, network)
    assert [sheet.get_suptitle() for sheet in sheets] == [f"small on {ending}"]
    verdicts = [axis.get_ylabel().split("\n")[1][:5] for axis in sheets[0].axes if axis.get_ylabel()]
    assert verdicts == ["right"] * 3 + ["wrong"] * 3


@pytest.mark.parametrize(("source", "ending"), DATA)
def test_every_class_has_a_sheet_of_the_consensus_that_says_that_images_are_synthetic(
    params, sheets, network, data, source, ending
):
    consensus._show(with_source(params, source), data, {"small": network, "other": network}, "small")
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


@pytest.mark.parametrize(
    ("acceptable", "latency", "served"),
    [(["fp32", "bf16"], {"fp32": 2, "bf16": 1}, "bf16"), (["fp32", "int8"], {"fp32": 1, "int8": 2}, "fp32")],
)
def test_the_quickest_of_the_precisions_that_are_as_good_serves(params, monkeypatch, acceptable, latency, served):
    def measured(runtime: str, *_) -> dict:
        return {"latency_ms_p50": latency[runtime.removeprefix("openvino_")]}

    monkeypatch.setattr(export, "measure_runtime", measured)
    assert export._quickest(params, "small", acceptable) == served


def test_nothing_is_timed_where_only_one_precision_may_serve(params, monkeypatch):
    monkeypatch.setattr(export, "measure_runtime", lambda *_: pytest.fail("timed"))
    assert export._quickest(params, "small", ["fp32"]) == "fp32"
