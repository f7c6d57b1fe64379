import numpy as np
import pandas as pd
import pytest

from mri.data.dataset import Dataset
from mri.explanation.sampling import candidates, draw, read_probabilities

CLASSES = ["glioma", "notumor"]


@pytest.fixture
def data() -> Dataset:
    """Gliomas a to d, b and d without an outline, two images without a tumour, and one that is not for testing."""
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
    found = read_probabilities(tmp_path, ["one", "two"], pd.Series(["f", "a"]), CLASSES)
    np.testing.assert_allclose(found, [[[0.4, 0.6], [0.9, 0.1]], [[0.6, 0.4], [0.1, 0.9]]])


def test_outlined_images_are_shown_where_a_class_has_any_that_is_called_so(data, tmp_path):
    predicted(tmp_path, "one", [0.9, 0.9, 0.9, 0.1, 0.1, 0.9])
    found = candidates(data, tmp_path, ["one"])
    assert found["id"].tolist() == ["a", "c", "d", "e", "f"], "d is the only glioma called wrongly"
    assert found["called"].tolist() == ["glioma", "glioma", "notumor", "notumor", "glioma"]


def test_several_networks_call_what_their_mean_probability_says(data, tmp_path):
    predicted(tmp_path, "one", [0.9, 0.6, 0.9, 0.9, 0.6, 0.1])
    predicted(tmp_path, "two", [0.2, 0.1, 0.0, 0.3, 0.1, 0.1])
    found = candidates(data, tmp_path, ["one", "two"])
    assert found["id"].tolist() == ["a", "c", "e", "f"]
    assert found["called"].tolist() == ["glioma", "notumor", "notumor", "notumor"]


def test_half_of_what_is_drawn_is_called_wrongly(data, tmp_path):
    predicted(tmp_path, "one", [0.9, 0.9, 0.9, 0.1, 0.1, 0.9])
    drawn = draw(candidates(data, tmp_path, ["one"]), 4, 0)
    assert sorted(drawn["id"][2:]) == ["d", "f"] and set(drawn["id"][:2]) < {"a", "c", "e"}
    assert drawn["label"].tolist()[:2] == ["glioma", "notumor"]
