"""The decoding of masks; that of images is tested with the dataset and the pipeline."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mri.data.dataset import ImageRecord, index_row, write_index
from mri.data.decoding import decode_masks


def picture(path, box=None):
    """Write a 64 px picture, bright all over or black with a bright box (left, top, right, bottom)."""
    pixels = np.full((64, 64), 0 if box else 200, np.uint8)
    if not box:
        pixels[::2] = 180  # of one grey level, it would be no picture of a head
    if box:
        left, top, right, bottom = box
        pixels[top:bottom, left:right] = 255
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
    """Three images: one with its own mask, one without, one that is a mirrored copy of the reference slice."""
    dataset, reference = tmp_path / "dataset", tmp_path / "reference"
    for name in "abc":
        picture(dataset / f"{name}.png")
    picture(dataset / "a-mask.png", (0, 0, 32, 64))
    picture(reference / "slice.png")
    picture(reference / "slice-mask.png", (0, 0, 16, 64))
    rows = [index_row(ImageRecord(name, f"{name}.png", "glioma", "made"), "", 64, 64) for name in "abc"]
    frame = pd.DataFrame(rows).assign(mask=["a-mask.png", "", ""])
    slice_row = index_row(ImageRecord("slice", "slice.png", "glioma", "made", mask="slice-mask.png"), "", 64, 64)
    write_index([slice_row], reference)
    return dataset, frame, reference


def test_images_have_their_own_mask_or_that_of_their_original_turned_as_they_are(folders, tmp_path):
    dataset, frame, reference = folders
    frame = frame.assign(mask_from=["", "", "slice"], transform=["", "", "mirror"])
    rows = decode_masks(dataset, frame, reference, 32, tmp_path)
    masks = np.load(tmp_path / "masks.npy")
    assert rows.tolist() == [0, -1, 1] and masks.shape == (2, 32, 32) and masks.dtype == bool
    left, right = np.arange(32) < 16, np.arange(32) >= 24
    assert (masks[0] == left).all() and (masks[1] == right).all()


def test_the_reference_is_not_needed_when_nothing_comes_from_it(folders, tmp_path):
    dataset, frame, _ = folders
    assert decode_masks(dataset, frame, tmp_path / "nowhere", 32, tmp_path).tolist() == [0, -1, -1]


def test_without_masks_the_array_is_empty(folders, tmp_path):
    dataset, frame, _ = folders
    assert decode_masks(dataset, frame.assign(mask=""), tmp_path, 32, tmp_path).tolist() == [-1, -1, -1]
    assert np.load(tmp_path / "masks.npy").shape == (0, 32, 32)
