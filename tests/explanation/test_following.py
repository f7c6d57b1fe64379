import numpy as np
import pandas as pd
import pytest
import torch

from mri.data.dataset import Dataset
from mri.explanation import following
from mri.explanation.following import paste_tumours, remove_tumours, score_following
from mri.networks.models import Classifier

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
SIDE = 80
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
HEAD = np.where((COLUMNS / 28) ** 2 + (ROWS / 35) ** 2 < 1, 90 + 15 * np.cos(np.abs(COLUMNS) / 3), 0)


@pytest.fixture
def data() -> Dataset:
    """A lateral glioma, one on the midline, a lateral pituitary tumour, and two heads without a tumour."""
    labels, masks = ["glioma", "glioma", "pituitary", "notumor", "notumor"], np.zeros((3, SIDE, SIDE), bool)
    for mask, (row, column) in zip(masks, [(-8, 14), (-8, 0), (5, -14)], strict=True):
        mask[np.hypot(ROWS - row, COLUMNS - column) <= 4] = True
    pixels = np.repeat(HEAD[None], 5, axis=0)
    pixels[:3][masks] = 250
    frame = pd.DataFrame({"id": list("abcde"), "label": labels, "split": "test", "group": list("ABCDE")})
    frame = frame.assign(row=range(5), mask_row=[0, 1, 2, -1, -1])
    return Dataset(frame, pixels.astype(np.uint8), masks, CLASSES)


@pytest.fixture
def masked(data) -> pd.DataFrame:
    return data.index[:3]


@pytest.fixture
def sees_brightness(monkeypatch) -> None:
    """Replace the network by one that calls bright spots gliomas, and its maps by the brightness."""

    def logits(_: Classifier, pixels: np.ndarray) -> np.ndarray:
        bright = (pixels > 180).any(axis=(1, 2))
        return np.where(bright[:, None], [4.0, 0, 0, 0], [0.0, 0, 4, 0]).astype(np.float32)

    def maps(_: Classifier, images: torch.Tensor, target: np.ndarray) -> np.ndarray:
        return np.maximum(images[:, 0].numpy() - 0.6, 0)

    monkeypatch.setattr(following, "predict_logits", logits)
    monkeypatch.setattr(following, "explain", maps)


def test_only_lateral_tumours_are_removed(data, masked):
    removed = remove_tumours(data, masked)
    assert removed.images["id"].tolist() == ["a", "c"]
    assert (removed.before[removed.old] == 250).all() and (removed.after[removed.old] < 130).all()
    np.testing.assert_array_equal(removed.old, removed.new)


def test_tumours_are_pasted_into_heads_of_others_at_other_places_but_not_those_whose_place_is_their_class(data, masked):
    removed = remove_tumours(data, masked)
    pasted = paste_tumours(data, masked, removed, seed=0)
    assert pasted.images["id"].tolist() == ["a", "b"]
    for after, old, new in zip(pasted.after, pasted.old, pasted.new, strict=True):
        assert after[new].mean() > 200 and after[~new].mean() < 60
        moved = np.argwhere(new).mean(axis=0) - np.argwhere(old).mean(axis=0)
        assert np.hypot(*moved) >= following.DISTANCE * SIDE - 1
    again = paste_tumours(data, masked, removed, seed=0)
    np.testing.assert_array_equal(pasted.after, again.after)


def test_a_map_that_follows_the_tumour_leaves_with_it_and_finds_it_elsewhere(data, masked, sees_brightness):
    removed = remove_tumours(data, masked)
    scores = score_following(None, data, removed, paste_tumours(data, masked, removed, 0), 100, 0)
    away, elsewhere = scores["removed"], scores["pasted"]
    assert away["n"] == away["groups"] == 2 and elsewhere["n"] == 2
    assert away["mass_before"]["value"] == pytest.approx(1) and away["mass_after"]["value"] == 0
    assert away["class_changes"]["value"] == away["called_tumour_free"]["value"] == 1
    assert away["class_changes"]["low"] < 0.5, "two patients show little, though both changed"
    assert away["probability_before"]["value"] > 0.9 > 0.1 > away["probability_after"]["value"]
    assert elsewhere["pointing_game"]["value"] == elsewhere["called"]["value"] == 1
    assert elsewhere["pointing_old"]["value"] == 0 and elsewhere["pointing_game"]["chance"] < 0.02


def test_a_map_that_stays_at_the_usual_place_neither_leaves_nor_finds(data, masked, sees_brightness, monkeypatch):
    removed = remove_tumours(data, masked)
    pasted = paste_tumours(data, masked, removed, 0)
    monkeypatch.setattr(following, "gradcam", lambda _, pixels, target: data.masks[: len(pixels)].astype(np.float32))
    removed = removed[np.array([0])]
    scores = score_following(None, data, removed, pasted, 100, 0)
    assert scores["removed"]["mass_left_by"]["value"] == 0
    assert scores["pasted"]["pointing_game"]["value"] == 0 and scores["pasted"]["pointing_old"]["value"] == 1


def test_where_no_tumour_can_be_moved_there_is_nothing_to_score(data):
    none = data.index[:0]
    removed = remove_tumours(data, none)
    assert score_following(None, data, removed, paste_tumours(data, none, removed, 0), 100, 0) == {
        "removed": {"n": 0},
        "pasted": {"n": 0},
    }
