import numpy as np
import pandas as pd
import pytest

from mri.evaluation.subgroups import COPY, KIN, NONE, relatives, summaries

CLASSES = ["glioma", "notumor"]


def table(rows) -> pd.DataFrame:
    """rows: (label, called, source, plane, lesion); every image is its own group."""
    frame = pd.DataFrame(rows, columns=["label", "called", "source", "plane", "lesion"])
    for name in CLASSES:
        frame[f"p_{name}"] = np.where(frame["called"] == name, 0.9, 0.1)
    return frame.assign(group=range(len(frame)), relatives=NONE)


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
    scores = summaries(table(ROWS), CLASSES, 100)
    assert {name: (row["n"], row["accuracy"]["value"]) for name, row in scores["source"].items()} == {
        "a": (6, pytest.approx(5 / 6)),
        "b": (2, 0.5),
    }
    assert {name: row["n"] for name, row in scores["plane"].items()} == {"axial": 2, "coronal": 1}
    assert scores["plane"]["axial"]["missed_tumour_rate"]["value"] == 0.5
    assert "missed_tumour_rate" not in scores["source"]["b"], "there is no tumour to miss"


def test_missed_tumours_have_the_interval_that_resampling_groups_gives():
    rows = [("glioma", "notumor" if missed else "glioma", "a", "axial", np.nan) for missed in [1] * 10 + [0] * 10]
    whole = table([*rows, ("notumor", "notumor", "b", "", np.nan)]).assign(group=[*([0] * 10), *([1] * 10), 2])
    scores = summaries(whole, CLASSES, 100)["source"]["a"]
    assert scores["missed_tumour_rate"] == {"value": 0.5, "low": 0, "high": 1}, "two groups: one may be drawn twice"


def test_a_call_to_a_class_that_does_not_occur_does_not_halve_a_score():
    """600 tumours, three of them called tumour-free: macro-F1 would have counted that class as 0."""
    rows = [("glioma", "notumor" if i < 3 else "glioma", "a", "axial", np.nan) for i in range(600)]
    scores = summaries(table([*rows, ("notumor", "notumor", "b", "", np.nan)]), CLASSES, 100)["source"]["a"]
    assert set(scores) == {"n", "groups", "accuracy", "balanced_accuracy", "missed_tumour_rate"}
    assert scores["accuracy"]["value"] == scores["balanced_accuracy"]["value"] == 0.995
    assert scores["missed_tumour_rate"]["value"] == 0.005


@pytest.mark.parametrize(("images", "shown"), [(0, True), (1, False), (4, False), (5, True)])
def test_balanced_accuracy_is_left_out_where_a_class_has_few_images(images, shown):
    rows = [("glioma", "glioma", "a", "", np.nan)] * 20 + [("notumor", "glioma", "a", "", np.nan)] * images
    scores = summaries(table([*rows, ("glioma", "glioma", "b", "", np.nan)]), CLASSES, 100)["source"]
    assert ("balanced_accuracy" in scores["a"]) == shown and "balanced_accuracy" not in scores["b"]
    assert scores["a"]["accuracy"]["value"] == 20 / (20 + images)
    if shown:
        assert scores["a"]["balanced_accuracy"]["value"] == (0.5 if images else 1)


def test_lesions_are_dealt_into_thirds_by_their_share_of_the_image():
    scores = summaries(table(ROWS), CLASSES, 100)["lesion_size"]
    assert {name: (row["n"], row["accuracy"]["value"]) for name, row in scores.items()} == {
        "small": (2, 0.5),
        "medium": (2, 1),
        "large": (2, 1),
    }
    assert scores["large"]["up_to"] == 0.06
    assert scores["small"]["up_to"] < 0.03 <= scores["medium"]["up_to"] < 0.05


def test_what_is_known_of_none_or_equal_in_all_is_left_out():
    rows = [(label, called, "a", "", np.nan) for label, called, *_ in ROWS]
    assert summaries(table(rows), CLASSES, 100) == {}


def test_the_closest_that_training_has_of_an_image_is_named():
    index = pd.DataFrame(
        [
            ("train", "n1", "g1"),
            ("test", "n1", "g1"),
            ("test", "n2", "g1"),
            ("val", "n3", "g2"),
            ("test", "n3", "g2"),
            ("", "n4", "g3"),
            ("test", "n4", "g3"),
        ],
        columns=["split", "near", "group"],
    )
    part = index[index["split"] == "test"]
    assert relatives(index, part).tolist() == [COPY, KIN, NONE, NONE]
    assert relatives(index, part.reset_index(drop=True)).index.tolist() == [0, 1, 2, 3]


def test_images_without_relatives_in_training_are_scored_apart_though_they_are_of_one_class():
    whole = table(ROWS).assign(relatives=[COPY] * 4 + [NONE] * 2 + [COPY] * 2)
    scores = summaries(whole, CLASSES, 100)["relatives"]
    assert {name: (row["n"], row["accuracy"]["value"]) for name, row in scores.items()} == {
        COPY: (6, pytest.approx(2 / 3)),
        NONE: (2, 1.0),
    }
    assert "relatives" not in summaries(table(ROWS), CLASSES, 100), "all have the same"
