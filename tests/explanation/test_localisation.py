import numpy as np
import pytest

from mri.explanation.localisation import summarise
from mri.explanation.maps import Grid

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
    assert above["over_chance"]["low"] == pytest.approx((masses - [4 / 64, 16 / 64]).min())


def test_the_lead_over_trivial_maps_is_over_the_best_of_them():
    scores = scored(MASKS)
    best = max(scores["baselines"], key=lambda name: scores["baselines"][name]["rma"]["value"])
    over = scores["methods"]["m"]["rma"]["over_trivial"]
    assert over["best"] == best
    assert over["value"] == pytest.approx(1 - scores["baselines"][best]["rma"]["value"])


def test_a_coarse_grid_lowers_the_ceiling_of_its_method_alone():
    assert scored(MASKS, {"m": Grid((2, 2))})["methods"]["m"]["rma"]["ceiling"] < 0.9
