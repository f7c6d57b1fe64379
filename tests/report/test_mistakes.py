import numpy as np
import pandas as pd
import pytest

from mri.data.dataset import Dataset
from mri.networks import models
from mri.report import mistakes
from tests.conftest import blobs

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
WRONG = np.array([(i + (i >= 4)) % 4 for i in range(8)])  # the last four of eight images, two of each class


@pytest.fixture
def networks(small_spec) -> dict[str, models.Classifier]:
    network = models.build(small_spec, 4, seed=0).eval()
    return {"small": network, "other": network}


@pytest.fixture
def sheets(networks, tmp_path):
    """Return a function that draws sheets of two images, given how many to show at most and the predictions of "small".

    The confidence of "small" rises with the image's number; "other" makes only its two surest mistakes.
    """
    part = blobs(8)
    frame = part.index.assign(label=[CLASSES[i] for i in part.labels], row=range(8), mask_row=-1)
    data = Dataset(frame, part.pixels, np.zeros((0, 1, 1), bool), CLASSES)

    def draw(monkeypatch, most: int, called: np.ndarray = WRONG) -> list:
        sure = np.array([0.4] * 4 + [0.5, 0.625, 0.75, 0.875])
        for name, calls in (("small", called), ("other", np.where(np.arange(8) < 6, np.arange(8) % 4, called))):
            table = pd.DataFrame(np.eye(4)[calls] * sure[:, None], columns=[f"p_{label}" for label in CLASSES])
            table = table.assign(id=frame["id"], label=frame["label"], split="test")
            table.assign(predicted=[CLASSES[i] for i in calls]).to_csv(tmp_path / f"{name}.csv", index=False)
        monkeypatch.setattr(mistakes, "MOST", most)
        return list(mistakes.mistake_sheets(data, networks, "small", tmp_path, 2, "phantom (synthetic images)"))

    return draw


def test_all_mistakes_are_shown_up_to_a_limit_the_surest_first(sheets, monkeypatch):
    figures = sheets(monkeypatch, 3)
    assert [figure.get_suptitle() for figure in figures] == [
        "small's 4 mistakes on 8 test images, the surest first: number 1 to 2 of 3 shown\nphantom (synthetic images)",
        "small's 4 mistakes on 8 test images, the surest first: number 3 to 3 of 3 shown\nphantom (synthetic images)",
    ]
    captions = [axis.get_ylabel() for figure in figures for axis in figure.axes if axis.get_ylabel()]
    assert captions == [
        "pituitary\nwrong, called glioma\nat 88%",
        "notumor\nwrong, called pituitary\nat 75%",
        "meningioma\nwrong, called notumor\nat 62%",
    ]


def test_below_each_map_of_a_mistake_is_what_that_network_calls_the_image(sheets, monkeypatch):
    below = [[axis.get_xlabel() for axis in figure.axes[:6] if axis.get_xlabel()] for figure in sheets(monkeypatch, 24)]
    assert below == [
        ["wrong: glioma, 88%", "wrong: glioma, 88%", "wrong: pituitary, 75%", "wrong: pituitary, 75%"],
        ["wrong: notumor, 62%", "right: meningioma, 62%", "wrong: meningioma, 50%", "right: glioma, 50%"],
    ]


def test_a_winner_without_mistakes_gets_one_sheet_that_says_so(sheets, monkeypatch):
    (figure,) = sheets(monkeypatch, 24, np.arange(8) % 4)
    assert figure.axes[0].texts[0].get_text().startswith("small makes no mistake on 8 test images")
