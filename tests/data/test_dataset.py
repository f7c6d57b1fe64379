import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mri.base.errors import UserError
from mri.data import dataset
from mri.data.dataset import ImageRecord
from mri.data.decoding import decode, decode_masks


@pytest.fixture
def folder(tmp_path):
    """Four images of different brightness, and one mask; split by hand."""
    rows = []
    for i, label in enumerate("abab"):
        pixels = np.zeros((40, 40), np.uint8)
        pixels[4:36, 4:36] = 50 * (i + 1)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append(dataset.index_row(ImageRecord(f"{i}", f"{i}.png", label, "made"), "", 40, 40))
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(tmp_path / "mask.png")
    frame = pd.DataFrame(rows).assign(mask=["", "", "mask.png", ""])
    decode(tmp_path, frame, 32, 16, tmp_path / "splits")
    masks = decode_masks(tmp_path, frame, tmp_path, 32, tmp_path / "splits")
    frame = frame.assign(split=["train", "train", "test", "test"], row=range(4), mask_row=masks)
    dataset.write_index(frame.assign(clean=[False, False, True, False], near="x", group="0"), tmp_path / "splits")
    return tmp_path / "splits"


def test_a_part_has_its_own_pixels_and_labels(folder):
    data = dataset.read(folder, ["a", "b"])
    part = data.part("test")
    assert part.labels.tolist() == [0, 1] and part.index["id"].tolist() == ["2", "3"]
    assert part.pixels[:, 16, 16].tolist() == [150, 200]
    assert data.masks_of(part.index[:1]).shape == (1, 32, 32)


def test_text_stays_text_when_it_looks_like_a_number(folder):
    assert dataset.read(folder, ["a", "b"]).index["group"].tolist() == ["0"] * 4


def test_an_empty_part_is_said(folder):
    with pytest.raises(UserError, match="the split has no val images"):
        dataset.read(folder, ["a", "b"]).part("val")


def test_the_version_changes_with_the_split_and_only_then(folder):
    before = dataset.version(folder)
    assert before == dataset.version(folder) and len(before) == 12
    (folder / dataset.INDEX_FILE).write_text((folder / dataset.INDEX_FILE).read_text().replace("train", "val"))
    assert dataset.version(folder) != before


def test_batches_cover_everything_once():
    assert [(part.start, part.stop) for part in dataset.batches(7, 3)] == [(0, 3), (3, 6), (6, 7)]
