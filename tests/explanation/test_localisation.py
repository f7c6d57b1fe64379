import numpy as np
import pandas as pd
import pytest

from mri.data.dataset import Dataset
from mri.explanation.localisation import Grid, difference, sample, summarise

MASKS = np.zeros((2, 8, 8), bool)
MASKS[0, :2, :2] = True  # 4 of 64 pixels
MASKS[1, :4, :4] = True  # 16 of 64
FLAT = np.full((2, 8, 8), 100, np.uint8)
GROUPS = np.array(["p", "q"])


def scored(maps, grids=None):
    return summarise({"m": maps.astype(np.float32)}, FLAT, MASKS, GROUPS, grids or {}, 200, 0)


def test_a_map_of_the_mask_itself_reaches_the_ceiling():
    rma = scored(MASKS)["methods"]["m"]["rma"]
    assert rma["value"] == rma["ceiling"] == 1
    assert rma["skill"] == {"value": 1, "low": 1, "high": 1}
    assert rma["chance"] == pytest.approx((4 / 64 + 16 / 64) / 2)


def test_skill_of_the_best_trivial_map_is_0():
    found = scored(np.ones((2, 8, 8)))
    best = found["methods"]["m"]["rma"]["over_trivial"]["best"]
    trivial = found["baselines"][best]["rma"]["value"]
    chance = found["methods"]["m"]["rma"]["chance"]
    assert found["methods"]["m"]["rma"]["skill"]["value"] == pytest.approx((chance - trivial) / (1 - trivial))


def test_leads_are_paired_image_by_image():
    """Constant maps score chance in every image, so the lead is 0 in every resample, though chance itself varies."""
    found = scored(np.ones((2, 8, 8)))["methods"]["m"]["rma"]
    assert found["low"] < found["high"]
    lead = found["over_chance"]
    assert lead["value"] == pytest.approx(0) and lead["high"] - lead["low"] == pytest.approx(0)
    above = scored(np.where(MASKS, 3.0, 1.0))["methods"]["m"]["rma"]
    own = np.array([3 * 4 / (3 * 4 + 60), 3 * 16 / (3 * 16 + 48)])
    assert above["over_chance"]["value"] == pytest.approx((own - [4 / 64, 16 / 64]).mean())
    assert above["over_chance"]["low"] == pytest.approx((own - [4 / 64, 16 / 64]).min())


def test_the_lead_over_trivial_maps_is_over_the_best_of_them():
    found = scored(MASKS)
    best = max(found["baselines"], key=lambda name: found["baselines"][name]["rma"]["value"])
    over = found["methods"]["m"]["rma"]["over_trivial"]
    assert over["best"] == best
    assert over["value"] == pytest.approx(1 - found["baselines"][best]["rma"]["value"])


def test_a_coarse_grid_lowers_the_ceiling_of_its_method_alone():
    assert scored(MASKS, {"m": Grid((2, 2))})["methods"]["m"]["rma"]["ceiling"] < 0.9


def test_a_difference_of_which_all_resamples_agree_is_told_from_0():
    weights = np.eye(2)
    found = difference(np.array([3.0, 2.0]), np.array([1.0, 1.0]), weights)
    assert found["value"] == 1.5 and found["distinguishable"] and found["low"] > 0.9
    assert not difference(np.array([3.0, 0.0]), np.array([1.0, 1.0]), weights)["distinguishable"]


def test_one_image_of_every_class_and_patient_is_taken_in_turn():
    rows = [("a1", "glioma", "A"), ("a2", "glioma", "A"), ("a3", "glioma", "A"), ("b1", "glioma", "B")]
    rows += [("c1", "pituitary", "C"), ("c2", "pituitary", "C")]
    index = pd.DataFrame(rows, columns=["id", "label", "group"]).assign(split="test", mask_row=0)
    data = Dataset.__new__(Dataset)
    object.__setattr__(data, "index", index)
    assert sample(data, 4)["id"].tolist() == ["a1", "b1", "c1", "c2"]
    assert len(sample(data, 100)) == 6
