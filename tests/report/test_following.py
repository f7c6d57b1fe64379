import numpy as np
import pandas as pd
import pytest

from mri.data.dataset import Dataset
from mri.explanation.following import Changed
from mri.report import following
from mri.report.following import following_sheet

DATA = Dataset(pd.DataFrame(), np.zeros((0, 8, 8), np.uint8), np.zeros((0, 8, 8), bool), ["glioma", "notumor"])


def changed(count: int, moved: bool) -> Changed:
    """Return white images that turn black, whose tumour is moved or not."""
    masks = np.zeros((count, 8, 8), bool)
    masks[:, 1:3, 1:3] = True
    images = pd.DataFrame({"label": ["glioma"] * count, "group": range(count)})
    white = np.full((count, 8, 8), 255, np.uint8)
    return Changed(images, white, 0 * white, masks, np.roll(masks, 4, axis=1) if moved else masks)


@pytest.fixture(autouse=True)
def network_of_brightness(monkeypatch) -> None:
    """Replace the network by one that is sure of a glioma in a white image, and of none in a black one."""
    monkeypatch.setattr(following, "gradcam", lambda _, pixels, target: pixels.astype(np.float32))
    monkeypatch.setattr(following, "predict_logits", lambda _, pixels: (pixels[:, 0, :2] - 99.0) * [1, -1])


def test_half_of_the_tumours_shown_are_removed_and_half_pasted_with_what_the_network_says_before_and_after():
    figure = following_sheet(None, DATA, changed(9, moved=False), changed(9, moved=True), 4, "a network")
    assert figure.get_suptitle() == "Does the map follow the tumour? a network"
    axes = np.array(figure.axes[:16], object).reshape(4, 4)
    assert [axis.get_title() for axis in axes[0]] == ["scan", "Grad-CAM, scan", "changed", "Grad-CAM, changed"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["glioma\nremoved"] * 2 + ["glioma\npasted elsewhere"] * 2
    assert [axis.get_xlabel() for axis in axes[0]] == ["", "glioma 100%", "", "glioma 0%"]


def test_without_tumours_the_sheet_says_so():
    figure = following_sheet(None, DATA, changed(0, moved=False), changed(0, moved=True), 4, "a network")
    assert figure.axes[0].texts[0].get_text() == "no test image has an outlined tumour\na network"
