import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mri.data.dataset import Dataset
from mri.report.viewer import viewer


@pytest.fixture
def data() -> Dataset:
    frame = pd.DataFrame({"id": ["x", "y", "z"], "label": ["glioma", "notumor", "glioma"], "row": [2, 0, 1]})
    pixels = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 30)])
    masks = np.zeros((1, 4, 4), bool)
    masks[0, 1:3, 1:3] = True
    return Dataset(frame.assign(mask_row=[-1, -1, 0]), pixels, masks, ["glioma", "notumor"])


def shown(data: Dataset, folder, ids: list[str], called: list[str], maps: dict, consensus: np.ndarray) -> dict:
    """Return the viewer's images for maps {network: (N, 4, 4)}, where every network by itself predicts notumor."""
    arrays = {f"{name}/gradcam": values for name, values in maps.items()}
    arrays |= {f"own/{name}": np.array(["notumor"] * len(ids)) for name in maps}
    np.savez_compressed(folder / "shown.npz", id=np.array(ids), called=np.array(called), consensus=consensus, **arrays)
    return viewer(data, folder / "shown.npz", list(maps))


def picture(uri: str, mode: str = "RGB") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert(mode))


def one_pixel(*where: tuple[int, int]) -> np.ndarray:
    """Return maps (N, 4, 4), each with one pixel above 0."""
    maps = np.zeros((len(where), 4, 4), np.float32)
    for values, at in zip(maps, where, strict=True):
        values[at] = 0.01
    return maps


def brightest(uri: str) -> tuple[int, int]:
    return divmod(int(picture(uri).sum(2).argmax()), 4)


def test_each_scan_comes_with_its_own_maps_the_consensus_and_the_called_classes(data, tmp_path):
    maps = {"small": one_pixel((1, 2), (3, 3)), "large": one_pixel((0, 1), (0, 2))}
    content = shown(data, tmp_path, ["z", "x"], ["glioma", "notumor"], maps, one_pixel((2, 2), (3, 0)))
    assert content["methods"] == ["gradcam"]
    z, x = content["images"]
    assert [int(picture(image["scan"])[0, 0, 0]) for image in (z, x)] == [20, 30]
    assert [(image["label"], image["called"]) for image in (z, x)] == [("glioma", "glioma"), ("glioma", "notumor")]
    assert z["own"] == {"small": "notumor", "large": "notumor"}
    assert [brightest(image["maps"]["small"]["gradcam"]) for image in (z, x)] == [(1, 2), (3, 3)]
    assert [brightest(image["maps"]["large"]["gradcam"]) for image in (z, x)] == [(0, 1), (0, 2)]
    assert [brightest(image["consensus"]) for image in (z, x)] == [(2, 2), (3, 0)]


def test_a_tumour_is_outlined_where_its_outline_is_known(data, tmp_path):
    maps = {"small": one_pixel((1, 2), (3, 3))}
    outlined, unknown = shown(data, tmp_path, ["z", "x"], ["glioma"] * 2, maps, maps["small"])["images"]
    assert unknown["outline"] is None
    drawn = picture(outlined["outline"], "RGBA")
    around = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]])
    np.testing.assert_array_equal(drawn[..., 3], 255 * around)
    assert (drawn[around > 0] == (0, 255, 255, 255)).all()


def test_one_network_has_no_consensus(data, tmp_path):
    maps = {"small": one_pixel((1, 2))}
    assert shown(data, tmp_path, ["x"], ["glioma"], maps, maps["small"])["images"][0]["consensus"] is None


def test_the_colour_bar_runs_from_the_colour_of_nothing_to_that_of_the_maximum(data, tmp_path):
    maps = {"small": one_pixel((1, 2))}
    content = shown(data, tmp_path, ["x"], ["glioma"], maps, maps["small"])
    drawn = picture(content["images"][0]["maps"]["small"]["gradcam"]).astype(int)
    ends = [
        [int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (content["colours"][0], content["colours"][-1])
    ]
    assert np.abs(drawn[0, 0] - ends[0]).max() <= 1 and np.abs(drawn[1, 2] - ends[1]).max() <= 1
