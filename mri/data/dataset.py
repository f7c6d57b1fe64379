"""Datasets on disk: an index with one row per image and, once split, every image decoded into a memory-mapped array.

The `download` stage writes a folder with `index.csv` and the files that it names; later stages know nothing else about
where images came from. The `split` stage decodes the images (`mri.data.decoding`) and adds to the index: row (in
`images.npy`), mask_row (in `masks.npy`, -1 without a mask), split ("train", "val", "test", or "" for an image that is
not used), group, fold and clean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mri.base.errors import UserError

INDEX_FILE = "index.csv"
SKIPPED = "skipped.csv"  # images that could not be used: id, path, reason
IMAGES, MASKS = "images.npy", "masks.npy"
PARTS = ("train", "val", "test")
NUMBERS = ("width", "height", "row", "mask_row")  # columns of the index that hold whole numbers


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset, as its source describes it. Empty strings mean "unknown".

    id: unique within the dataset.
    path, mask: relative to the dataset's folder, with forward slashes.
    label: the class.
    source: the image's origin (a website, a scanner, "phantom").
    official_split: "train" or "test" where the source comes with a split.
    patient: the same for all images of a patient.
    group: the same for images that the source knows to be one picture or one volume.
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


COLUMNS = [*ImageRecord.__dataclass_fields__, "sha256", "width", "height"]


def write_index(rows: Iterable[dict] | pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write `index.csv`, sorted by id so that the order of files on disk doesn't matter, and return it.

    Raises UserError for an id that occurs twice.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=COLUMNS)
    repeated = frame["id"][frame["id"].duplicated()]
    if len(repeated):
        raise UserError(f"duplicate image id {repeated.iloc[0]!r} ({len(repeated)} in all): rename those files")
    frame = frame.sort_values("id", kind="stable").reset_index(drop=True)
    frame.to_csv(folder / INDEX_FILE, index=False)
    return frame


def read_index(folder: Path) -> pd.DataFrame:
    """Read the index of the dataset in `folder`; text columns are strings, "" where unknown."""
    path = folder / INDEX_FILE
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the stage that writes it (`dvc repro`)")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = frame.columns.intersection(list(NUMBERS))
    if "clean" in frame:
        frame["clean"] = frame["clean"] == "True"
    return frame.astype(dict.fromkeys(numbers, int))


def index_row(record: ImageRecord, sha256: str, width: int, height: int) -> dict:
    """Return an index row: the source's description, the SHA-256 of the file's bytes, and its size in pixels."""
    return asdict(record) | {"sha256": sha256, "width": width, "height": height}


@dataclass(frozen=True)
class Part:
    """The images of one part of a dataset.

    index: one row per image. pixels: uint8 (N, S, S). labels: int64 (N,), positions in the list of classes.
    """

    index: pd.DataFrame
    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A dataset as the split stage wrote it. pixels: uint8 (N, S, S); masks: bool (M, S, S); both memory-mapped."""

    index: pd.DataFrame
    pixels: np.ndarray
    masks: np.ndarray
    classes: list[str]

    def part(self, split: str) -> Part:
        """Return the images of "train", "val" or "test". Raises UserError when there are none."""
        frame = self.index[self.index["split"] == split].reset_index(drop=True)
        if frame.empty:
            raise UserError(f"the split has no {split} images: check split.* in params.yaml")
        labels = frame["label"].map({name: i for i, name in enumerate(self.classes)}).to_numpy(np.int64)
        return Part(frame, self.pixels[frame["row"].to_numpy()], labels)

    def masks_of(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the masks, bool (N, S, S), of the rows of `frame`, all of which must have one."""
        return self.masks[frame["mask_row"].to_numpy()]

    def outlines(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the masks, bool (N, S, S), of the rows of `frame`, empty for images without one."""
        masks = np.zeros((len(frame), *self.pixels.shape[1:]), bool)
        masked = (frame["mask_row"] >= 0).to_numpy()
        masks[masked] = self.masks_of(frame[masked])
        return masks


def read(folder: Path, classes: list[str]) -> Dataset:
    """Open the dataset that the split stage wrote to `folder`."""
    frame = read_index(folder)
    pixels = np.load(folder / IMAGES, mmap_mode="r")
    masks = np.load(folder / MASKS, mmap_mode="r") if (frame["mask_row"] >= 0).any() else np.zeros((0, 1, 1), bool)
    return Dataset(frame, pixels, masks, classes)


def version(folder: Path) -> str:
    """Return 12 hex digits that identify the split data: of the SHA-256 of its index, which lists every image's."""
    return hashlib.sha256((folder / INDEX_FILE).read_bytes()).hexdigest()[:12]


def batches(n: int, size: int) -> Iterator[slice]:
    """Return consecutive slices of at most `size` that cover range(n)."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
