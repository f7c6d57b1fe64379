import numpy as np
import pandas as pd
import pytest

from mri.data.dataset import Dataset
from mri.explanation.maps import explain
from mri.inference.consensus import combine, confidence_weights
from mri.networks import models
from mri.networks.predict import to_tensor
from mri.report.gallery import Gallery, build
from tests.conftest import blobs

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
PROBABILITIES = {
    "one": [[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]],
    "two": [[0.1, 0.1, 0.7, 0.1], [0.1, 0.7, 0.1, 0.1]],
}


@pytest.fixture
def networks(small_spec):
    return {"one": models.build(small_spec, 4, seed=0).eval(), "two": models.build(small_spec, 4, seed=1).eval()}


@pytest.fixture
def data() -> Dataset:
    """A glioma with an outline and a meningioma without."""
    frame = pd.DataFrame({"id": ["a", "b"], "label": CLASSES[:2], "row": [0, 1], "mask_row": [0, -1]})
    masks = np.zeros((1, 32, 32), bool)
    masks[0, 4:8, 4:8] = True
    return Dataset(frame, blobs(2).pixels, masks, CLASSES)


def build_gallery(data: Dataset, networks: dict, folder, methods: list[str]) -> Gallery:
    """Build a gallery of both images, the first classified as tumour-free."""
    for name in networks:
        table = pd.DataFrame(PROBABILITIES[name], columns=[f"p_{label}" for label in CLASSES])
        table.assign(id=["a", "b"]).to_csv(folder / f"{name}.csv", index=False)
    images = data.index.assign(called=["notumor", "meningioma"])
    return build(data, images, networks, folder, methods)


def test_all_maps_and_the_consensus_explain_the_class_called_together(data, networks, tmp_path):
    gallery = build_gallery(data, networks, tmp_path, ["gradient"])
    images, target = to_tensor(data.pixels), np.array([2, 1])
    for name, network in networks.items():
        np.testing.assert_allclose(gallery.maps[name]["gradient"], explain(network, images, target, "gradient"))
    gradcam = np.stack([explain(network, images, target, "gradcam") for network in networks.values()])
    weights = confidence_weights(np.array(list(PROBABILITIES.values())), target)
    np.testing.assert_allclose(gallery.consensus.map, combine(gradcam, weights).map)
    assert {name: called.tolist() for name, called in gallery.called_alone.items()} == {
        "one": ["glioma", "meningioma"],
        "two": ["notumor", "meningioma"],
    }
    assert {name: scores.tolist() for name, scores in gallery.probability.items()} == {
        "one": [0.1, 0.7],
        "two": [0.7, 0.7],
    }
    assert gallery.masks.sum((1, 2)).tolist() == [16, 0]


def test_a_sheet_has_a_row_per_image_that_says_how_it_is_called(data, networks, tmp_path):
    figure = build_gallery(data, networks, tmp_path, ["gradcam", "guided_backprop"]).sheet("one", "a title")
    assert figure.get_suptitle() == "a title"
    assert [axis.get_title() for axis in figure.axes[:4]] == ["scan", "gradcam", "guided backprop", "consensus"]
    captions = [figure.axes[row * 4].get_ylabel() for row in range(2)]
    # Of the first image only one network is surer than chance, and of the second both maps are empty.
    assert captions == ["glioma\nwrong, called notumor", "meningioma\nright, called meningioma\nagreement 0.00"]


def test_one_network_has_no_consensus_to_show(data, networks, tmp_path):
    figure = build_gallery(data, {"one": networks["one"]}, tmp_path, ["gradcam"]).sheet("one")
    assert figure.get_suptitle() == "one"
    assert [axis.get_title() for axis in figure.axes[:2]] == ["scan", "gradcam"] and len(figure.axes) == 5
    assert figure.axes[0].get_ylabel() == "glioma\nwrong, called notumor"
