"""The split dataset: every image decoded once into a memory-mapped array (`mri.decoding`), beside its index.

`index.csv` has the columns of `mri.index` plus row (into `images.npy`), mask_row (into `masks.npy`, -1 without a mask),
split ("train", "val", "test", or "" for an image that no part uses), group, fold and clean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mri import index
from mri.errors import UserError

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
    frame = index.read(folder)
    pixels = np.load(folder / IMAGES, mmap_mode="r")
    masks = np.load(folder / MASKS, mmap_mode="r") if (frame["mask_row"] >= 0).any() else np.zeros((0, 1, 1), bool)
    return Dataset(frame, pixels, masks, classes)


def version(folder: Path) -> str:
    """Twelve hex digits that name the split data: the SHA-256 of its index, which holds every image's own SHA-256."""
    return hashlib.sha256((folder / index.FILE).read_bytes()).hexdigest()[:12]


def batches(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover range(n)."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
