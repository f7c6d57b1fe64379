"""Suspicious images: contradicted labels, computed tomography, spots; on pictures made for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mri.data.properties import Evidence, file_properties, grey_statistics
from mri.evaluation.suspects import COLUMNS, GAP, SPOT, contradicted, skull_touches_brain, spot, suspects

SIDE = 160
Y, X = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE - 0.5


def head(layers: dict[float, int], seed: int = 0) -> np.ndarray:
    """Return concentric ellipses on black: brightness of each by its radius, the brain's with symmetric texture."""
    image = np.zeros((SIDE, SIDE))
    radius = np.hypot(X / 0.36, Y / 0.45)
    for outer, brightness in sorted(layers.items(), reverse=True):
        image[radius < outer] = brightness
    texture = np.random.default_rng(seed).normal(0, 4, (SIDE, SIDE))
    return np.clip(image + np.where(radius < min(layers), texture + texture[:, ::-1], 0), 0, 255).astype(np.uint8)


CT = head({1.0: 60, 0.95: 250, 0.85: 100})
MR = head({1.0: 240, 0.92: 30, 0.85: 110})


def with_spot(image: np.ndarray, brightness: int, x: float = 0.15) -> np.ndarray:
    return np.where(np.hypot(X - x, Y + 0.05) < 0.06, np.uint8(brightness), image)


def test_a_skull_touches_the_brain_in_ct_and_not_in_mr():
    assert skull_touches_brain(CT) >= GAP
    assert skull_touches_brain(MR) == pytest.approx(0.27, abs=0.1)  # 30 of 110
    assert skull_touches_brain(head({1.0: 110, 0.9: 100})) == 0  # no skull
    assert skull_touches_brain(np.zeros((SIDE, SIDE), np.uint8)) == 0


@pytest.mark.parametrize("brightness", [220, 25])
def test_a_spot_on_one_side_is_seen_and_one_on_both_is_not(brightness):
    one = with_spot(MR, brightness)
    assert spot(MR) < SPOT < spot(one)
    assert spot(with_spot(one, brightness, x=-0.15)) < SPOT
    assert spot(np.zeros((SIDE, SIDE), np.uint8)) == 0


def test_a_turned_and_shifted_head_is_set_upright_before_its_halves_are_compared():
    from scipy import ndimage

    tilted = ndimage.shift(ndimage.rotate(MR, 8, reshape=False, order=1), (0, 5), order=1)
    assert spot(tilted) < SPOT
    assert spot(ndimage.rotate(with_spot(MR, 220), 8, reshape=False, order=1)) > SPOT


def test_an_image_is_contradicted_when_confidently_of_another_class():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.15, 0.85], [0.1, 0.9], [0.3, 0.7], [0.95, 0.05]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # Usual: (0.9 + 0.7 + 0.15) / 3 = 0.583 for class 0, (0.9 + 0.7 + 0.05) / 3 = 0.55 for class 1.
    assert contradicted(probabilities, labels).tolist() == [-1, -1, 1, -1, -1, 0]
    unsure = np.array([[0.6, 0.4], [0.45, 0.55], [0.4, 0.6], [0.3, 0.7]])
    assert contradicted(unsure, np.array([0, 0, 1, 1])).tolist() == [-1, -1, -1, -1]


def dataset(pictures: np.ndarray, labels: list[str]) -> pd.DataFrame:
    rows = len(pictures)
    names = [f"{label}/{number}" for number, label in enumerate(labels)]
    table = suspects(
        pd.DataFrame({"id": names, "path": names, "label": labels, "group": names}),
        pictures,
        Evidence(
            pictures[:, ::5, ::5].astype(np.float32),
            pd.DataFrame([file_properties(picture, "L", 1) for picture in pictures]),
            np.stack([grey_statistics(picture) for picture in pictures]),
        ),
        seed=0,
    )
    assert list(table.columns) == list(COLUMNS) and rows
    return table


def test_each_kind_of_suspect_is_listed_and_ordinary_images_are_not():
    plain = [head({1.0: 240, 0.92: 30, 0.85: 110}, seed) for seed in range(12)]
    bright = [head({1.0: 240, 0.92: 30, 0.85: 180}, seed) for seed in range(12)]
    mislabelled = head({1.0: 240, 0.92: 30, 0.85: 180}, seed=40)
    pictures = np.stack([*plain, *bright, CT, with_spot(MR, 220), mislabelled])
    labels = ["notumor"] * 12 + ["glioma"] * 12 + ["notumor"] * 3
    table = dataset(pictures, labels)
    listed = table.groupby("reason")["id"].agg(list).to_dict()
    assert listed["computed_tomography"] == ["notumor/24"]
    assert listed["lesion"] == ["notumor/25"]
    assert listed["label"] == ["notumor/26"]
    assert table.loc[table["reason"] == "label", "other"].tolist() == ["glioma"]


def test_without_groups_enough_to_learn_from_no_label_is_contradicted():
    table = dataset(np.stack([MR, MR, with_spot(MR, 220)]), ["notumor", "glioma", "glioma"])
    assert table.empty  # a spot in an image of a tumour is what it should have
