from collections import Counter

import numpy as np
import pandas as pd
import pytest

from mri.data.dataset import Dataset
from mri.explanation.sampling import (
    candidates,
    choose_evenly,
    choose_masked,
    choose_right_and_wrong,
    choose_tumour_free,
    outcomes,
    read_probabilities,
)

CLASSES = ["glioma", "notumor"]
LABELS = ["glioma"] * 20 + ["meningioma"] * 2 + ["pituitary"] * 10


@pytest.fixture
def data() -> Dataset:
    """Gliomas a to d (b and d without an outline), two tumour-free images, and one that is not in the test set."""
    labels = ["glioma"] * 4 + ["notumor"] * 2 + ["glioma"]
    masks = [0, -1, 1, -1, -1, -1, 2]
    frame = pd.DataFrame({"id": list("abcdefg"), "label": labels, "mask_row": masks, "row": range(7)})
    frame["split"] = ["test"] * 6 + ["train"]
    outlines = np.zeros((3, 4, 4), bool)
    outlines[:, 1, 1] = True
    return Dataset(frame, np.zeros((7, 4, 4), np.uint8), outlines, CLASSES)


def predicted(folder, name: str, glioma: list[float]) -> None:
    table = pd.DataFrame({"id": list("abcdef"), "p_glioma": glioma, "p_notumor": [1 - p for p in glioma]})
    table.to_csv(folder / f"{name}.csv", index=False)


def test_probabilities_are_a_network_s_of_the_images_asked_for(tmp_path):
    predicted(tmp_path, "one", [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    predicted(tmp_path, "two", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    probabilities = read_probabilities(tmp_path, ["one", "two"], pd.Series(["f", "a"]), CLASSES)
    np.testing.assert_allclose(probabilities, [[[0.4, 0.6], [0.9, 0.1]], [[0.6, 0.4], [0.1, 0.9]]])


def test_outlined_images_are_shown_where_a_class_has_any_that_is_called_so(data, tmp_path):
    predicted(tmp_path, "one", [0.9, 0.9, 0.9, 0.1, 0.1, 0.9])
    images = candidates(data, tmp_path, ["one"])
    assert images["id"].tolist() == ["a", "c", "d", "e", "f"], "d is the only glioma called wrongly"
    assert images["called"].tolist() == ["glioma", "glioma", "notumor", "notumor", "glioma"]


def test_several_networks_call_what_their_mean_probability_says(data, tmp_path):
    predicted(tmp_path, "one", [0.9, 0.6, 0.9, 0.9, 0.6, 0.1])
    predicted(tmp_path, "two", [0.2, 0.1, 0.0, 0.3, 0.1, 0.1])
    images = candidates(data, tmp_path, ["one", "two"])
    assert images["id"].tolist() == ["a", "c", "e", "f"]
    assert images["called"].tolist() == ["glioma", "notumor", "notumor", "notumor"]


@pytest.mark.parametrize(
    ("count", "each"),
    [(3, [1, 1, 1]), (6, [2, 2, 2]), (8, [3, 2, 3]), (99, [20, 2, 10])],
)
def test_as_many_images_of_each_class_are_chosen_as_possible(count, each):
    shown = [LABELS[i] for i in choose_evenly(LABELS, count, 0)]
    assert shown == sorted(shown)
    assert [Counter(shown)[name] for name in ("glioma", "meningioma", "pituitary")] == each


def test_the_choice_depends_on_the_seed_alone():
    first, again, other = (choose_evenly(LABELS, 6, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert len({*first}) == 6


def test_an_outcome_says_the_true_class_the_called_one_and_whether_that_is_wrong():
    assert outcomes(["glioma", "notumor"], ["glioma", "glioma"]) == [
        "glioma\nright, called glioma",
        "notumor\nwrong, called glioma",
    ]


@pytest.mark.parametrize(
    ("wrong", "count", "shown"),
    [(2, 6, (4, 2)), (9, 6, (3, 3)), (9, 7, (4, 3)), (0, 6, (6, 0)), (32, 6, (0, 6)), (30, 6, (2, 4)), (1, 2, (1, 1))],
)
def test_half_of_the_images_shown_are_called_wrongly_where_there_are_as_many(wrong, count, shown):
    images = pd.DataFrame({"label": LABELS, "called": ["something else"] * wrong + LABELS[wrong:], "row": range(32)})
    rows = choose_right_and_wrong(images, count, 0)["row"].to_numpy()
    assert [(rows >= wrong).sum(), (rows < wrong).sum()] == [*shown]
    assert (np.diff(rows < wrong) >= 0).all(), "the right ones first"
    assert len({*rows}) == count


def test_right_and_wrong_images_are_of_as_many_kinds_as_possible():
    called = ["glioma"] * 10 + ["pituitary"] * 7 + ["notumor"] * 3 + ["meningioma"] * 2 + ["pituitary"] * 10
    sample = choose_right_and_wrong(pd.DataFrame({"label": LABELS, "called": called}), 5, 0)
    assert Counter(outcomes(sample["label"].tolist(), sample["called"].tolist())) == {
        "glioma\nright, called glioma": 1,
        "meningioma\nright, called meningioma": 1,
        "pituitary\nright, called pituitary": 1,
        "glioma\nwrong, called notumor": 1,
        "glioma\nwrong, called pituitary": 1,
    }


def test_no_images_are_neither_right_nor_wrong():
    assert choose_right_and_wrong(pd.DataFrame({"label": [], "called": []}, dtype=str), 6, 0).empty


def test_one_image_of_every_class_and_patient_is_taken_in_turn():
    rows = [("a1", "glioma", "A"), ("a2", "glioma", "A"), ("a3", "glioma", "A"), ("b1", "glioma", "B")]
    rows += [("c1", "pituitary", "C"), ("c2", "pituitary", "C")]
    index = pd.DataFrame(rows, columns=["id", "label", "group"]).assign(split="test", mask_row=0)
    data = Dataset(index, np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4, 4), bool), CLASSES)
    assert choose_masked(data, 4)["id"].tolist() == ["a1", "b1", "c1", "c2"]
    assert len(choose_masked(data, 100)) == 6


def test_one_tumour_free_test_image_of_every_group_is_chosen():
    rows = [("a", "notumor", "test"), ("b", "notumor", "test"), ("c", "glioma", "test"), ("d", "notumor", "train")]
    index = pd.DataFrame([(*row, "one" if row[0] in "ab" else row[0]) for row in [*rows, ("e", "notumor", "test")]])
    index.columns = ["id", "label", "split", "group"]
    data = Dataset(index, np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4, 4), bool), CLASSES)
    sample = choose_tumour_free(data, 9, 0)
    assert sorted(sample["group"]) == ["e", "one"]
    assert len(choose_tumour_free(data, 1, 0)) == 1
