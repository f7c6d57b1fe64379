"""Decode a dataset once: pixels and masks into memory-mapped arrays, and what the audit needs of each file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from mri.data import images
from mri.data.dataset import IMAGES, MASKS, read_index
from mri.data.matching import inherited_mask, views
from mri.data.properties import Evidence, file_properties, grey_statistics
from mri.data.relations import content_hash

THUMBNAIL = 32


@dataclass(frozen=True)
class Decoded:
    """The result of decoding N files.

    views: uint8 (N, 2, A, A), for `mri.data.matching`. hashes: of the decoded pixels. evidence: for
    `mri.evaluation.trivial_classifiers`.
    """

    views: np.ndarray
    hashes: list[str]
    evidence: Evidence


def decode(folder: Path, index: pd.DataFrame, size: int, audit_size: int, out: Path) -> Decoded:
    """Decode every image of `index` below `folder`, and write the networks' input, uint8 (N, size, size).

    The input goes to out/images.npy. Row i of every array is row i of `index`.
    """
    out.mkdir(parents=True, exist_ok=True)
    pixels = np.lib.format.open_memmap(out / IMAGES, "w+", np.uint8, (len(index), size, size))
    compared = np.zeros((len(index), 2, audit_size, audit_size), np.uint8)
    reduced = np.zeros((len(index), THUMBNAIL, THUMBNAIL), np.float32)

    def decode_file(row: int, path: str) -> tuple[str, dict, np.ndarray]:
        file = folder / path
        original = images.read(file)
        pixels[row] = images.prepare(original, size)
        compared[row] = views(original, audit_size)
        reduced[row] = images.prepare(original, THUMBNAIL)
        properties = file_properties(original, images.describe(file)["mode"], file.stat().st_size)
        return content_hash(original), properties, grey_statistics(original)

    with ThreadPoolExecutor() as pool:  # decoding and resizing release the interpreter lock
        decoded = pool.map(decode_file, range(len(index)), index["path"])
        results = list(tqdm(decoded, "decoding", len(index), unit=" images", disable=None))
    pixels.flush()
    hashes, properties, grey = zip(*results, strict=True)
    return Decoded(compared, list(hashes), Evidence(reduced, pd.DataFrame(list(properties)), np.stack(grey)))


def decode_views(folder: Path, index: pd.DataFrame, size: int) -> np.ndarray:
    """Return the views, uint8 (N, 2, size, size), that `mri.data.matching` compares, and decode nothing else."""
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda path: views(images.read(folder / path), size), index["path"])))


def decode_masks(folder: Path, index: pd.DataFrame, reference: Path, size: int, out: Path) -> np.ndarray:
    """Write the masks, framed as networks see their images, bool (M, size, size), to out/masks.npy.

    A mask is the image's own (column mask, below `folder`) or inherited from the image's original (columns mask_from
    and transform, see `mri.data.matching.inherit`; below `reference`, which is read only when there are any).
    Returns the number of each image's mask, int64 (N,), -1 for an image without one.
    """
    frame = index if "mask_from" in index else index.assign(mask_from="")
    masked = ((frame["mask"] != "") | (frame["mask_from"] != "")).to_numpy()
    originals = read_index(reference).set_index("id")["mask"] if (frame["mask_from"] != "").any() else {}

    def decode_mask(row: dict[str, Any]) -> np.ndarray:
        image = images.read(folder / row["path"])
        if row["mask"]:
            mask = images.read_mask(folder / row["mask"])
        else:
            original = images.read_mask(reference / originals[row["mask_from"]])
            mask = inherited_mask(original, row["transform"], image.shape)
        return images.prepare_mask(mask, image, size)

    with ThreadPoolExecutor() as pool:
        masks = list(pool.map(decode_mask, frame[masked].to_dict("records")))
    np.save(out / MASKS, np.stack(masks) if masks else np.zeros((0, size, size), bool))
    return np.where(masked, np.cumsum(masked) - 1, -1)
