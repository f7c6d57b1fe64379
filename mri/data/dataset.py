"""A dataset on disk: its index, one row per image, and, once split, every image decoded into a memory-mapped array.

A dataset is a folder with `index.csv` beside the files it names. The `download` stage writes one; everything
downstream reads it and nothing else about where the images came from. The `split` stage decodes the images
(`mri.data.decoding`) and adds to the index: row (into `images.npy`), mask_row (into `masks.npy`, -1 without a mask),
split ("train", "val", "test", or "" for an image that no part uses), group, fold and clean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mri.base.errors import UserError
from mri.data import dataset

INDEX_FILE = "index.csv"
SKIPPED = "skipped.csv"  # images that could not be used: id, path, reason


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset, as its source describes it. Empty strings mean "not known".

    id: unique within the dataset.
    path, mask: relative to the dataset's folder, with forward slashes.
    label: the class.
    source: where the image came from originally (a website, a scanner, "phantom").
    official_split: "train" or "test" where the source ships a split of its own.
    patient: images of one patient share it.
    group: images that the source itself knows to be one picture or one volume share it.
    plane: "axial", "coronal" or "sagittal".
    fold: the source's own cross-validation fold.
    """

    id: str
    path: str
    label: str
    source: str
    official_split: str = ""
    patient: str = ""
    group: str = ""
    mask: str = ""
    plane: str = ""
    fold: str = ""


NUMBERS = ["width", "height", "row", "mask_row"]
COLUMNS = [*ImageRecord.__dataclass_fields__, "sha256", "width", "height"]


def write_index(rows: Iterable[dict] | pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write `index.csv` with rows sorted by id, so that the order of files on disk never matters.

    Raises UserError when ids repeat.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=COLUMNS)
    repeated = frame["id"][frame["id"].duplicated()]
    if len(repeated):
        raise UserError(f"duplicate image id {repeated.iloc[0]!r} ({len(repeated)} in all): rename those files")
    frame = frame.sort_values("id", kind="stable").reset_index(drop=True)
    frame.to_csv(folder / INDEX_FILE, index=False)
    return frame


def read_index(folder: Path) -> pd.DataFrame:
    """The index of the dataset in `folder`; text columns are strings, "" where nothing is known."""
    path = folder / INDEX_FILE
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the stage that writes it (`dvc repro`)")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = frame.columns.intersection(NUMBERS)
    if "clean" in frame:
        frame["clean"] = frame["clean"] == "True"
    return frame.astype(dict.fromkeys(numbers, int))


def index_row(sample: ImageRecord, sha256: str, width: int, height: int) -> dict:
    """An index row: what the source says of the image plus what its file says (pixels, SHA-256 of its bytes)."""
    return asdict(sample) | {"sha256": sha256, "width": width, "height": height}


IMAGES, MASKS = "images.npy", "masks.npy"
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Part:
    """Some of a dataset's images.

    index: one row per image. pixels: uint8 (N, S, S). labels: int64 (N,), positions in the list of classes.
    """

    index: pd.DataFrame
    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A folder that the split stage made. pixels: uint8 (N, S, S); masks: bool (M, S, S); both memory-mapped."""

    index: pd.DataFrame
    pixels: np.ndarray
    masks: np.ndarray
    classes: list[str]

    def part(self, split: str) -> Part:
        """The images of "train", "val" or "test". Raises UserError when there are none."""
        frame = self.index[self.index["split"] == split].reset_index(drop=True)
        if frame.empty:
            raise UserError(f"the split has no {split} images: check split.* in params.yaml")
        labels = frame["label"].map({name: i for i, name in enumerate(self.classes)}).to_numpy(np.int64)
        return Part(frame, self.pixels[frame["row"].to_numpy()], labels)

    def masks_of(self, frame: pd.DataFrame) -> np.ndarray:
        """bool (N, S, S): the masks of the rows of `frame`, all of which must have one."""
        return self.masks[frame["mask_row"].to_numpy()]

    def outlines(self, frame: pd.DataFrame) -> np.ndarray:
        """bool (N, S, S): the masks of the rows of `frame`, empty where there is none."""
        masks = np.zeros((len(frame), *self.pixels.shape[1:]), bool)
        known = (frame["mask_row"] >= 0).to_numpy()
        masks[known] = self.masks_of(frame[known])
        return masks


def read(folder: Path, classes: list[str]) -> Dataset:
    """The dataset that the split stage wrote to `folder`."""
    frame = read_index(folder)
    pixels = np.load(folder / IMAGES, mmap_mode="r")
    masks = np.load(folder / MASKS, mmap_mode="r") if (frame["mask_row"] >= 0).any() else np.zeros((0, 1, 1), bool)
    return Dataset(frame, pixels, masks, classes)


def version(folder: Path) -> str:
    """Twelve hex digits that name the split data: the SHA-256 of its index, which holds every image's own SHA-256."""
    return hashlib.sha256((folder / dataset.INDEX_FILE).read_bytes()).hexdigest()[:12]


def batches(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover range(n)."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
