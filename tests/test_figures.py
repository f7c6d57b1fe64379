from collections import Counter

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mri.figures import COLOURS, explanation_sheet, for_sheet, named, outcomes, save

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


def test_a_sheet_shows_images_called_rightly_and_wrongly():
    kinds = outcomes(LABELS, ["glioma"] * 32)
    assert Counter(kinds) == {
        "glioma": 20,
        "meningioma\ncalled glioma": 2,
        "pituitary\ncalled glioma": 10,
    }
    kinds[0] = "glioma\ncalled pituitary"
    assert "glioma\ncalled pituitary" in [kinds[i] for i in for_sheet(kinds, 4, 0)]


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
    assert bar.get_alpha() is None
    np.testing.assert_array_equal(bar.get_facecolors(), matplotlib.colormaps[COLOURS](np.arange(256)))


def test_a_sheet_says_how_opaque_maps_are_and_what_is_outlined_if_anything_is():
    assert sheet(np.zeros((1, 8, 8), bool)).axes[-1].get_xlabel() == "maps lie over the scan with an opacity of 55 %"
    outlined = np.zeros((2, 8, 8), bool)
    outlined[1, 2:4, 2:4] = True
    assert sheet(outlined).axes[-1].get_xlabel().endswith("; cyan: the tumour's outline")
