from collections import Counter

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mri.explanation.sampling import for_sheet, outcomes, right_and_wrong
from mri.report.sheets import COLOURS, explanation_sheet, named, save

LABELS = ["glioma"] * 20 + ["meningioma"] * 2 + ["pituitary"] * 10


def drawn(path):
    figure, axis = plt.subplots(figsize=(2, 2))
    texture = ndimage.gaussian_filter(np.random.default_rng(0).random((100, 100)), 2)
    axis.imshow(texture, cmap="inferno")
    save(figure, path)
    return path


def test_the_name_decides_between_a_whole_picture_and_a_small_one(tmp_path):
    whole, small = drawn(tmp_path / "sub/whole.png"), drawn(tmp_path / "small.jpg")
    assert (Image.open(whole).format, Image.open(small).format) == ("PNG", "JPEG")
    pixels = [np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (whole, small)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 10
    assert small.stat().st_size < whole.stat().st_size / 2


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_the_same_picture_is_the_same_file(tmp_path, name):
    assert drawn(tmp_path / name).read_bytes() == drawn(tmp_path / f"other-{name}").read_bytes()


@pytest.mark.parametrize(
    ("count", "each"),
    [(3, [1, 1, 1]), (6, [2, 2, 2]), (8, [3, 2, 3]), (99, [20, 2, 10])],
)
def test_a_sheet_shows_as_many_of_each_class_as_there_can_be(count, each):
    shown = [LABELS[i] for i in for_sheet(LABELS, count, 0)]
    assert shown == sorted(shown)
    assert [Counter(shown)[name] for name in ("glioma", "meningioma", "pituitary")] == each


def test_which_images_a_sheet_shows_hangs_on_the_seed_alone():
    first, again, other = (for_sheet(LABELS, 6, seed).tolist() for seed in (0, 0, 1))
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
    called = ["something else"] * wrong + LABELS[wrong:]
    where = right_and_wrong(LABELS, called, count, 0)
    assert [(where >= wrong).sum(), (where < wrong).sum()] == [*shown]
    assert (np.diff(where < wrong) >= 0).all(), "the right ones first"
    assert len({*where}) == count


def test_right_and_wrong_images_are_of_as_many_kinds_as_there_can_be():
    called = ["glioma"] * 10 + ["pituitary"] * 7 + ["notumor"] * 3 + ["meningioma"] * 2 + ["pituitary"] * 10
    kinds = outcomes(LABELS, called)
    assert Counter(kinds[i] for i in right_and_wrong(LABELS, called, 5, 0)) == {
        "glioma\nright, called glioma": 1,
        "meningioma\nright, called meningioma": 1,
        "pituitary\nright, called pituitary": 1,
        "glioma\nwrong, called notumor": 1,
        "glioma\nwrong, called pituitary": 1,
    }


def test_no_images_are_neither_right_nor_wrong():
    assert right_and_wrong([], [], 6, 0).tolist() == []


def test_the_name_of_synthetic_data_says_so_whatever_it_is_called():
    assert named("many", "phantom") == "many (synthetic images)"
    assert named("kaggle", "local") == "kaggle"


def sheet(masks: np.ndarray):
    """A sheet of images and maps that are all 0."""
    empty = np.zeros(masks.shape)
    figure = explanation_sheet(empty.astype(np.uint8), masks, {"gradcam": empty}, ["caption"] * len(masks), "title")
    plt.close(figure)
    return figure


def test_the_colour_bar_of_a_sheet_is_opaque_and_holds_every_colour_of_the_maps():
    figure = sheet(np.zeros((2, 8, 8), bool))
    figure.canvas.draw()
    bar = figure.axes[-1].collections[-1]
    np.testing.assert_array_equal(bar.get_facecolors(), matplotlib.colormaps[COLOURS](np.arange(256)))


def test_a_sheet_says_how_opaque_maps_are_and_what_is_outlined_if_anything_is():
    assert sheet(np.zeros((1, 8, 8), bool)).axes[-1].get_xlabel() == "maps lie over the scan with an opacity of 55 %"
    outlined = np.zeros((2, 8, 8), bool)
    outlined[1, 2:4, 2:4] = True
    assert sheet(outlined).axes[-1].get_xlabel().endswith("; cyan: the tumour's outline")


def test_something_can_be_said_below_each_map():
    empty = np.zeros((2, 8, 8))
    maps, below = {"one": empty, "two": empty}, {"two": ["first", "second"]}
    figure = explanation_sheet(empty.astype(np.uint8), empty > 0, maps, ["", ""], "title", below)
    plt.close(figure)
    assert [axis.get_xlabel() for axis in figure.axes[:6]] == ["", "", "first", "", "", "second"]
