import numpy as np
import pandas as pd
import pytest

from mri.data.dataset import Part
from mri.training.counterfactuals import Counterfactuals

CLASSES = ["glioma", "notumor", "pituitary"]
SIDE = 96


def head() -> np.ndarray:
    """Return an even, symmetric head on black."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    inside = (y / 42) ** 2 + (x / 34) ** 2 < 1
    return np.where(inside, 100 + 20 * np.cos(x / 5) * np.cos(y / 7), 0).astype(np.uint8)


def disc(row: int, column: int) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - row) ** 2 + (x - column) ** 2 < 7**2


def part(*images: tuple[str, np.ndarray | None]) -> tuple[Part, np.ndarray]:
    """Return heads with a bright tumour where a mask is given, and the masks."""
    names = [name for name, _ in images]
    masks = np.stack([np.zeros((SIDE, SIDE), bool) if mask is None else mask for _, mask in images])
    pixels = np.where(masks, 240, head()).astype(np.uint8)
    return Part(pd.DataFrame({"label": names}), pixels, np.array([CLASSES.index(name) for name in names])), masks


LATERAL, MEDIAL = disc(45, 28), disc(48, 48)


def changed(images, row: int, seeds=range(12)) -> list[tuple[np.ndarray, np.ndarray, int]]:
    counterfactuals = Counterfactuals(*part(*images), 1.0)
    results = [counterfactuals.apply(np.array([row]), np.random.default_rng(seed)) for seed in seeds]
    return [(pixels[0], outlines[0] > 0, int(classes[0])) for pixels, outlines, classes in results]


def test_a_lateral_tumour_is_taken_out_and_the_head_called_tumour_free_or_given_another_one():
    results = changed([("glioma", LATERAL), ("notumor", None)], 0)
    assert {name for *_, name in results} == {CLASSES.index("glioma"), CLASSES.index("notumor")}
    for pixels, outline, label in results:
        assert outline.any() == (CLASSES[label] == "glioma")
        if not outline.any():
            assert pixels[LATERAL].max() < 140  # the other side, where it was 240
        else:
            assert pixels[outline].mean() > 150


def test_a_tumour_free_head_is_given_a_tumour_with_its_label_and_outline():
    for pixels, outline, label in changed([("glioma", LATERAL), ("notumor", None)], 1):
        assert CLASSES[label] == "glioma" and outline.sum() == LATERAL.sum()
        assert pixels[outline].mean() > 150 and head()[outline].min() > 0


def test_a_tumour_on_the_midline_stays():
    for pixels, outline, label in changed([("glioma", MEDIAL), ("notumor", None)], 0):
        assert CLASSES[label] == "glioma" and (outline == MEDIAL).all() and (pixels[MEDIAL] == 240).all()


def test_a_tumour_whose_place_is_its_class_is_put_nowhere_else():
    results = changed([("pituitary", LATERAL), ("notumor", None)], 1)
    assert all(CLASSES[label] == "notumor" and not outline.any() for _, outline, label in results)


@pytest.mark.parametrize("images", [[("glioma", LATERAL)], [("glioma", None), ("notumor", None)]])
def test_without_a_tumour_free_class_or_outlines_nothing_changes(images):
    for pixels, _, label in changed(images, 0, range(3)):
        assert (pixels == part(*images)[0].pixels[0]).all() and label == CLASSES.index("glioma")


def test_a_share_of_the_images_is_changed_reproducibly_and_the_data_stay_as_they_are():
    images = [("glioma", LATERAL), *[("notumor", None)] * 99]
    data, masks = part(*images)
    before = data.pixels.copy()
    counterfactuals = Counterfactuals(data, masks, 0.3)
    rows = np.arange(100)
    first, again = (counterfactuals.apply(rows, np.random.default_rng(1)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert 15 <= (first[2] != data.labels).sum() <= 45
    assert (data.pixels == before).all()
