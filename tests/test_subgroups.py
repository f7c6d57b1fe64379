import numpy as np
import pandas as pd
import pytest

from mri.subgroups import summaries

CLASSES = ["glioma", "notumor"]


def table(rows) -> pd.DataFrame:
    """rows: (label, called, source, plane, lesion); every image is its own group."""
    frame = pd.DataFrame(rows, columns=["label", "called", "source", "plane", "lesion"])
    for name in CLASSES:
        frame[f"p_{name}"] = np.where(frame["called"] == name, 0.9, 0.1)
    return frame.assign(group=range(len(frame)))


ROWS = [
    ("glioma", "glioma", "a", "axial", 0.01),
    ("glioma", "notumor", "a", "axial", 0.02),
    ("glioma", "glioma", "a", "coronal", 0.03),
    ("glioma", "glioma", "a", "", 0.04),
    ("glioma", "glioma", "a", "", 0.05),
    ("glioma", "glioma", "a", "", 0.06),
    ("notumor", "notumor", "b", "", np.nan),
    ("notumor", "glioma", "b", "", np.nan),
]


def test_each_part_is_scored_on_its_own_images():
    found = summaries(table(ROWS), CLASSES, 100)
    assert {name: (row["n"], row["accuracy"]["value"]) for name, row in found["source"].items()} == {
        "a": (6, pytest.approx(5 / 6)),
        "b": (2, 0.5),
    }
    assert {name: row["n"] for name, row in found["plane"].items()} == {"axial": 2, "coronal": 1}
    assert found["plane"]["axial"]["missed_tumour_rate"] == 0.5
    assert "missed_tumour_rate" not in found["source"]["b"], "there is no tumour to miss"


def test_lesions_are_dealt_into_thirds_by_their_share_of_the_image():
    found = summaries(table(ROWS), CLASSES, 100)["lesion_size"]
    assert {name: (row["n"], row["accuracy"]["value"]) for name, row in found.items()} == {
        "small": (2, 0.5),
        "medium": (2, 1),
        "large": (2, 1),
    }
    assert found["large"]["up_to"] == 0.06
    assert found["small"]["up_to"] < 0.03 <= found["medium"]["up_to"] < 0.05


def test_what_is_known_of_none_or_equal_in_all_is_left_out():
    rows = [(label, called, "a", "", np.nan) for label, called, *_ in ROWS]
    assert summaries(table(rows), CLASSES, 100) == {}
