"""Matching of copies: equal to brute force, and robust to what websites do to pictures."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from mri.data import matching
from mri.data.matching import TRANSFORMS, describe, inherit, inherited_mask, match, similar_pairs, transform, views

SIZE, CELLS = 40, 8


def head(seed: int, size: int = 120) -> np.ndarray:
    """Return a grey ellipse with a random texture on black, uint8 (size, size)."""
    random = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    across, down = random.uniform(0.22, 0.32, 2)
    inside = (x / across) ** 2 + (y / down) ** 2 < 1
    texture = ndimage.gaussian_filter(random.normal(size=(size, size)), size / 12)
    texture = (texture - texture.min()) / np.ptp(texture)
    return np.where(inside, 50 + 200 * texture, 0).astype(np.uint8)


def pictures(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([views(image, SIZE) for image in images])


def ncc(a: np.ndarray, b: np.ndarray) -> float:
    """Return the normalised cross-correlation by its definition; 0 for a blank image."""
    a, b = (array.astype(np.float64) - array.mean() for array in (a, b))
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale else 0.0


def by_brute_force(left: np.ndarray, right: np.ndarray, threshold: float, within: bool) -> dict:
    """Return {(a, b): correlation} of all pairs, computed per transform and view."""
    correlations = {}
    for a in range(len(left)):
        for b in range(a + 1 if within else 0, len(right)):
            sides = [(x, transform(y, name)) for name in TRANSFORMS for x, y in zip(left[a], right[b], strict=True)]
            best = max(ncc(x, y) for x, y in sides)
            if best >= threshold:
                correlations[a, b] = best
    return correlations


def assert_pairs(table: pd.DataFrame, expected: dict) -> None:
    assert list(zip(table["a"], table["b"], strict=True)) == sorted(expected)
    np.testing.assert_allclose(table["correlation"], [expected[pair] for pair in sorted(expected)], atol=1e-4)


def test_transforms_are_the_eight_ways_to_lay_a_square_on_itself():
    image = np.arange(9).reshape(3, 3)
    assert len({transform(image, name).tobytes() for name in TRANSFORMS}) == 8
    assert transform(image, "none").tolist() == image.tolist()
    assert transform(image, "mirror").tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    assert transform(image, "turn90").tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    assert transform(image, "mirror_turn180").tolist() == [[6, 7, 8], [3, 4, 5], [0, 1, 2]]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), threshold=st.floats(0.1, 0.95), cells=st.sampled_from([2, 5, 8, 20]))
def test_search_finds_exactly_the_pairs_of_a_brute_force_search(seed, threshold, cells):
    random = np.random.default_rng(seed)
    base = [head(seed), head(seed + 1), random.integers(0, 256, (SIZE, SIZE), np.uint8), np.zeros((50, 60), np.uint8)]
    copies = [transform(base[0], str(random.choice(TRANSFORMS))), (base[1] * 0.6).astype(np.uint8), base[1][:100, 5:]]
    stack = pictures([*base, *copies])
    expected = by_brute_force(stack, stack, threshold, within=True)
    clear = {pair: value for pair, value in expected.items() if value >= threshold + 1e-4}
    table = similar_pairs(stack, threshold, cells)
    table = table[table["correlation"] >= threshold + 1e-4].reset_index(drop=True)
    assert_pairs(table, clear)


def test_search_in_small_blocks_finds_the_same(monkeypatch):
    stack = pictures([head(seed % 5) for seed in range(12)])
    others = pictures([head(seed) for seed in range(4)])
    whole, across = similar_pairs(stack, 0.5, CELLS), similar_pairs(stack, 0.5, CELLS, others)
    monkeypatch.setattr(matching, "BLOCK", 30)
    pd.testing.assert_frame_equal(similar_pairs(stack, 0.5, CELLS), whole)
    pd.testing.assert_frame_equal(similar_pairs(stack, 0.5, CELLS, others), across)
    assert_pairs(across, by_brute_force(stack, others, 0.5, within=False))


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), cells=st.sampled_from([1, 4, 10, 40]), smooth=st.floats(0, 5))
def test_bound_is_never_below_the_correlation(seed, cells, smooth):
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=(4, SIZE, SIZE)), (0, smooth, smooth))
    stack = np.uint8(255 * (noise - noise.min()) / np.ptp(noise))[:, None]
    short = matching._pictures(stack, cells).cells.reshape(4, -1)
    exact = [[ncc(x, y) for y in stack[:, 0]] for x in stack[:, 0]]
    assert (short @ short.T >= np.array(exact) - 1e-4).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transformed_copy_is_found_and_its_transform_named(name):
    image = head(3)
    table = similar_pairs(pictures([transform(image, name), image, head(4)]), 0.98, CELLS)
    assert table[["a", "b", "transform"]].to_numpy().tolist() == [[0, 1, name]]
    assert table["correlation"][0] > 0.999


def test_brightness_and_contrast_do_not_matter():
    image = head(5)
    table = similar_pairs(pictures([image, (image * 0.4 + 20).astype(np.uint8)]), 0.9, CELLS)
    assert table["whole"][0] > 0.999


def test_resized_and_recompressed_copy_is_found():
    image = head(6, size=200)
    file = io.BytesIO()
    Image.fromarray(image).resize((150, 150)).save(file, "JPEG", quality=70)
    assert similar_pairs(pictures([image, np.asarray(Image.open(file))]), 0.9, CELLS)["correlation"][0] > 0.99


def test_copy_with_another_border_is_found_by_the_centred_view():
    image = head(7)
    table = similar_pairs(pictures([image, np.pad(image, ((5, 60), (40, 10)))]), 0.98, CELLS)
    assert len(table) == 1
    assert table["whole"][0] < 0.9 and table["centred"][0] > 0.98


def test_stretched_copy_of_the_frame_is_found_by_the_whole_view():
    image = head(8)
    squeezed = np.asarray(Image.fromarray(image).resize((120, 70)))
    table = similar_pairs(pictures([image, squeezed]), 0.98, CELLS)
    assert len(table) == 1
    assert table["whole"][0] > 0.98 > table["centred"][0]


def test_blank_images_resemble_nothing():
    blank = np.zeros((30, 30), np.uint8)
    stack = pictures([blank, blank, np.full((30, 40), 90, np.uint8), head(9)])
    assert similar_pairs(stack, 0.01, CELLS).empty
    assert match(stack, stack[:1], 0.01, CELLS)["reference"].tolist() == [-1, -1, -1, -1]


def test_size_must_be_a_multiple_of_the_cells():
    with pytest.raises(ValueError, match="40 pixels can't be divided into 7 cells"):
        similar_pairs(pictures([head(0)]), 0.5, 7)


def test_match_takes_the_most_similar_reference_and_leaves_strangers_alone():
    references = [head(seed) for seed in range(5)]
    images = [references[3][:, ::-1], head(20), references[1]]
    matches = match(pictures(images), pictures(references), 0.98, CELLS)
    assert matches["reference"].tolist() == [3, -1, 1]
    assert matches["transform"].tolist() == ["mirror", "", "none"]
    assert (matches["correlation"] > 0.98).tolist() == [True, False, True]
    assert matches.loc[1, ["whole", "correlation"]].tolist() == [0, 0]


INDEX = pd.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "label": ["pituitary", "glioma", "glioma", "notumor"],
        "source": "web",
        "patient": ["", "own", "", ""],
        "mask": ["", "own.png", "", ""],
    }
)
REFERENCE = pd.DataFrame(
    {
        "id": ["r0", "r1"],
        "label": ["glioma", "meningioma"],
        "source": "archive",
        "patient": ["p0", "p1"],
        "mask": ["0.png", "1.png"],
    }
)
MATCHES = pd.DataFrame(
    {
        "reference": [1, 0, 0, 1],
        "transform": ["mirror", "none", "none", "none"],
        "whole": [0.99, 0.999, 0.6, 0.95],
        "correlation": [0.991, 0.999, 0.985, 0.95],
    }
)


def test_matched_images_inherit_what_they_lack_and_doubtful_ones_nothing():
    inherited = inherit(INDEX, MATCHES, REFERENCE, same=0.98)
    assert inherited["patient"].tolist() == ["p1", "own", "p0", ""]
    assert inherited["reference"].tolist() == ["r1", "r0", "r0", ""]
    assert inherited["reference_label"].tolist() == ["meningioma", "glioma", "glioma", ""]
    assert inherited["source"].tolist() == ["archive", "archive", "archive", "web"]
    assert inherited["transform"].tolist() == ["mirror", "none", "none", ""]
    assert inherited["label"].tolist() == INDEX["label"].tolist()


def test_masks_are_inherited_only_by_images_without_one_whose_whole_frame_agrees():
    assert inherit(INDEX, MATCHES, REFERENCE, same=0.98)["mask_from"].tolist() == ["r1", "", "", ""]
    without = REFERENCE.assign(mask="")
    assert inherit(INDEX, MATCHES, without, same=0.98)["mask_from"].tolist() == ["", "", "", ""]


def test_description_of_a_matching_counts_every_image_once():
    assert describe(inherit(INDEX, MATCHES, REFERENCE, same=0.98), MATCHES, same=0.98) == {
        "matched": 3,
        "per_class": {"glioma": 2, "pituitary": 1},
        "transforms": {"none": 2, "mirror": 1},
        "references": 2,
        "masks": 1,
        "lowest": 0.985,
        "doubtful": 1,
    }


@pytest.mark.parametrize("name", TRANSFORMS)
def test_inherited_mask_lies_where_the_picture_has_its_tumour(name):
    tumour = np.zeros((80, 80), bool)
    tumour[10:30, 40:44] = True
    copy = transform(np.where(tumour, np.uint8(200), np.uint8(0)), name)
    half = np.asarray(Image.fromarray(copy).resize((40, 40), Image.Resampling.BOX)) >= 100
    assert (inherited_mask(tumour, name, (40, 40)) == half).all()
    assert inherited_mask(tumour, name, (80, 80)).sum() == tumour.sum()


def test_smallest_tumour_keeps_a_pixel():
    tumour = np.zeros((90, 90), np.uint8)
    tumour[45, 45] = 1
    assert inherited_mask(tumour, "none", (30, 30)).sum() == 1
    assert inherited_mask(tumour * 0, "none", (30, 30)).sum() == 0
