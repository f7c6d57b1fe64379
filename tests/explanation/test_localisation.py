import numpy as np
import pandas as pd
import pytest

from mri.data.dataset import Dataset
from mri.explanation import localisation
from mri.explanation.localisation import fit_thresholds, score_localisation, summarise
from mri.explanation.maps import Grid
from mri.inference.gradcam import Cells

MASKS = np.zeros((2, 8, 8), bool)
MASKS[0, :2, :2] = True  # 4 of 64 pixels
MASKS[1, :4, :4] = True  # 16 of 64
FLAT = np.full((2, 8, 8), 100, np.uint8)
GROUPS = np.array(["p", "q"])


def scored(maps, grids=None):
    usual = np.ones(MASKS.shape, np.float32)
    return summarise({"m": maps.astype(np.float32)}, FLAT, MASKS, GROUPS, grids or {}, 200, 0, usual)


def test_a_map_of_the_mask_itself_reaches_the_ceiling():
    rma = scored(MASKS)["methods"]["m"]["rma"]
    assert rma["value"] == rma["ceiling"] == 1
    assert rma["skill"] == {"value": 1, "low": 1, "high": 1}
    assert rma["chance"] == pytest.approx((4 / 64 + 16 / 64) / 2)


def test_skill_of_the_best_trivial_map_is_0():
    scores = scored(np.ones((2, 8, 8)))
    rma = scores["methods"]["m"]["rma"]
    trivial, chance = scores["baselines"][rma["over_trivial"]["best"]]["rma"]["value"], rma["chance"]
    assert rma["skill"]["value"] == pytest.approx((chance - trivial) / (1 - trivial))


def test_leads_are_paired_image_by_image():
    """Constant maps score chance in every image, so the lead is 0 in every resample, though chance itself varies."""
    rma = scored(np.ones((2, 8, 8)))["methods"]["m"]["rma"]
    assert rma["low"] < rma["high"]
    lead = rma["over_chance"]
    assert lead["value"] == pytest.approx(0) and lead["high"] - lead["low"] == pytest.approx(0)
    above = scored(np.where(MASKS, 3.0, 1.0))["methods"]["m"]["rma"]
    masses = np.array([3 * 4 / (3 * 4 + 60), 3 * 16 / (3 * 16 + 48)])
    assert above["over_chance"]["value"] == pytest.approx((masses - [4 / 64, 16 / 64]).mean())
    assert above["over_chance"]["low"] < 0 < above["over_chance"]["high"], "two images tell little"


def test_the_lead_over_trivial_maps_is_over_the_best_of_them():
    scores = scored(MASKS)
    best = max(scores["baselines"], key=lambda name: scores["baselines"][name]["rma"]["value"])
    over = scores["methods"]["m"]["rma"]["over_trivial"]
    assert over["best"] == best
    assert over["value"] == pytest.approx(1 - scores["baselines"][best]["rma"]["value"])


def test_a_coarse_grid_lowers_the_ceiling_of_its_method_alone():
    assert scored(MASKS, {"m": Grid((2, 2), Cells(1.5, 4))})["methods"]["m"]["rma"]["ceiling"] < 0.9


CLASSES = ["glioma", "meningioma", "notumor"]


@pytest.fixture
def data() -> Dataset:
    """Six test tumours of three sizes and two series, two validation and two training tumours, all with masks."""
    parts = ["test"] * 6 + ["val"] * 2 + ["train"] * 2
    labels = ["glioma", "meningioma"] * 5
    frame = pd.DataFrame({"id": list("abcdefghij"), "split": parts, "label": labels, "group": list("ABCDEFGHIJ")})
    frame = frame.assign(row=range(10), mask_row=range(10), series=["x", "x", "y", "y", "", ""] + [""] * 4)
    masks = np.zeros((10, 12, 12), bool)
    for mask, side in zip(masks, [2, 2, 3, 3, 4, 4, 3, 3, 3, 3], strict=True):
        mask[4 : 4 + side, 4 : 4 + side] = True
    return Dataset(frame, np.full((10, 12, 12), 100, np.uint8), masks, CLASSES)


@pytest.fixture
def perfect(data, monkeypatch) -> None:
    """Replace the network by one that calls every class right, with maps that are the masks over a faint ground."""

    def maps(_, images, called, methods):
        shown = data.masks[6:8]
        return {method: np.where(shown, 1.0, 0.3).astype(np.float32) for method in methods}

    monkeypatch.setattr(localisation, "predict_logits", lambda _, pixels: np.eye(3)[[0, 1]])
    monkeypatch.setattr(localisation, "explain_many", maps)
    monkeypatch.setattr(localisation, "grids_of", lambda *_: {"gradcam": Grid((12, 12), Cells(0, 1))})


def test_thresholds_come_from_validation_masks(data, perfect):
    val = data.index[data.index["split"] == "val"]
    assert fit_thresholds(None, data, val) == {"gradcam": 0.35, "gradcam_fine": 0.35, "usual_place": 0.05}
    assert fit_thresholds(None, data, val[:0]) == {}


def test_outlines_and_parts_are_scored_on_test_masks(data, perfect):
    tests = data.index[data.index["split"] == "test"]
    maps = {"gradcam": np.where(data.masks[:6], 1.0, 0.3).astype(np.float32)}
    logits = np.eye(3)[[0, 1] * 3]
    scores = score_localisation(None, data, tests, logits, maps, {"gradcam": 0.35, "usual_place": 0.05}, 100, 0)
    row = scores["methods"]["gradcam"]
    assert row["outline"]["threshold"] == 0.35 and row["outline"]["dice"]["value"] == 1
    # The usual place is the training masks' 3 x 3, of which 4, 9 and 9 pixels are shared with 4, 9 and 16.
    usual = scores["baselines"]["usual_place"]
    assert usual["outline"]["iou"]["value"] == pytest.approx((4 / 9 + 1 + 9 / 16) / 3)
    assert usual["pointing_game"]["value"] == pytest.approx((4 / 9 + 1 + 1) / 3)
    counts = {column: {kind: part["n"] for kind, part in parts.items()} for column, parts in row["by"].items()}
    assert counts == {
        "label": {"glioma": 3, "meningioma": 3},
        "size": {"large": 2, "middle": 2, "small": 2},
        "series": {"unknown": 2, "x": 2, "y": 2},
    }
    assert row["by"]["size"]["large"]["iou"]["value"] == 1


def test_a_network_that_calls_no_tumour_has_no_scores(data, perfect):
    tests = data.index[data.index["split"] == "test"]
    maps = {"gradcam": np.ones((6, 12, 12), np.float32)}
    scores = score_localisation(None, data, tests, np.eye(3)[[2] * 6], maps, {"gradcam": 0.5}, 100, 0)
    assert (scores["n"], scores["methods"]) == (0, {})
