import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mri.dataset import Dataset
from mri.viewer import viewer


@pytest.fixture
def data() -> Dataset:
    frame = pd.DataFrame({"id": ["x", "y", "z"], "label": ["glioma", "notumor", "glioma"], "row": [2, 0, 1]})
    pixels = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 30)])
    return Dataset(frame, pixels, np.zeros((0, 1, 1), bool), ["glioma", "notumor"])


def written(folder, ids, maps):
    logits = np.array([[1.0, 0.0]] * len(ids))
    np.savez_compressed(folder / "small.npz", ids=np.array(ids, str), logits=logits, gradcam=maps)


def picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def test_each_scan_comes_with_its_own_maps_and_the_called_class(data, tmp_path):
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0, 1, 2], maps[1, 3, 3] = 5, 0.01
    written(tmp_path, ["z", "x"], maps)
    shown = viewer(data, tmp_path, ["small"], 9, 0)
    assert shown["methods"] == ["gradcam"]
    brightest = {}
    for image in shown["images"]:
        assert image["label"] == "glioma" and image["called"] == {"small": "glioma"}
        drawn = picture(image["maps"]["small"]["gradcam"]).sum(2)
        brightest[int(picture(image["scan"])[0, 0, 0])] = divmod(int(drawn.argmax()), 4)
    assert brightest == {20: (1, 2), 30: (3, 3)}


def test_without_maps_there_is_nothing_to_show(data, tmp_path):
    np.savez_compressed(tmp_path / "small.npz", ids=np.array([], str))
    assert viewer(data, tmp_path, ["small"], 6, 0) == {"images": [], "methods": []}
