import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mri.report.sheets import COLOURS, explanation_sheet, named, save


def drawn(path):
    figure, axis = plt.subplots(figsize=(2, 2))
    texture = ndimage.gaussian_filter(np.random.default_rng(0).random((100, 100)), 2)
    axis.imshow(texture, cmap=COLOURS)
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


def test_the_name_of_synthetic_data_says_so_whatever_it_is_called():
    assert named("many", "phantom") == "many (synthetic images)"
    assert named("kaggle", "local") == "kaggle"


def sheet(masks: np.ndarray):
    """Return a sheet of images and maps that are all 0."""
    empty = np.zeros(masks.shape)
    figure = explanation_sheet(empty.astype(np.uint8), masks, {"gradcam": empty}, ["caption"] * len(masks), "title")
    plt.close(figure)
    return figure


def test_the_colour_bar_of_a_sheet_is_opaque_and_holds_every_colour_of_the_maps():
    figure = sheet(np.zeros((2, 8, 8), bool))
    figure.canvas.draw()
    bar = figure.axes[-1].collections[-1]
    np.testing.assert_array_equal(bar.get_facecolors(), COLOURS(np.arange(256)))


def test_a_sheet_says_how_opaque_maps_are_and_what_is_outlined_if_anything_is():
    assert sheet(np.zeros((1, 8, 8), bool)).axes[-1].get_xlabel() == "maps lie over the scan with an opacity of 55 %"
    outlined = np.zeros((2, 8, 8), bool)
    outlined[1, 2:4, 2:4] = True
    assert sheet(outlined).axes[-1].get_xlabel().endswith("; cyan: the tumour's outline")


def test_each_map_can_have_a_text_below():
    empty = np.zeros((2, 8, 8))
    maps, below = {"one": empty, "two": empty}, {"two": ["first", "second"]}
    figure = explanation_sheet(empty.astype(np.uint8), empty > 0, maps, ["", ""], "title", below)
    plt.close(figure)
    assert [axis.get_xlabel() for axis in figure.axes[:6]] == ["", "", "first", "", "", "second"]
