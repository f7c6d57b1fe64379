"""Decode a dataset once: pixels and masks into memory-mapped arrays, and what the audit wants to know of each file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from mri import images
from mri.audit import content_hash
from mri.baselines import Evidence, file_properties, grey_statistics
from mri.dataset import IMAGES, MASKS
from mri.matching import views

THUMBNAIL = 32


@dataclass(frozen=True)
class Decoded:
    """What one pass over N files gives.

    views: uint8 (N, 2, A, A), for `mri.matching`. hashes: of the decoded pixels. evidence: for `mri.baselines`.
    """

    views: np.ndarray
    hashes: list[str]
    evidence: Evidence


def decode(folder: Path, index: pd.DataFrame, size: int, audit_size: int, out: Path) -> Decoded:
    """Decode every image of `index` below `folder`; write what networks see, uint8 (N, size, size), to out/images.npy.

    Row i of every array is row i of `index`.
    """
    out.mkdir(parents=True, exist_ok=True)
    pixels = np.lib.format.open_memmap(out / IMAGES, "w+", np.uint8, (len(index), size, size))
    compared = np.zeros((len(index), 2, audit_size, audit_size), np.uint8)
    reduced = np.zeros((len(index), THUMBNAIL, THUMBNAIL), np.float32)

    def one(row: int, path: str) -> tuple[str, dict, np.ndarray]:
        file = folder / path
        original = images.read(file)
        pixels[row] = images.prepare(original, size)
        compared[row] = views(original, audit_size)
        reduced[row] = images.prepare(original, THUMBNAIL)
        properties = file_properties(original, images.describe(file)["mode"], file.stat().st_size)
        return content_hash(original), properties, grey_statistics(original)

    with ThreadPoolExecutor() as pool:  # decoding and resizing release the interpreter lock
        results = list(
            tqdm(pool.map(one, range(len(index)), index["path"]), "decoding", len(index), unit=" images", disable=None)
        )
    pixels.flush()
    hashes, properties, grey = zip(*results, strict=True)
    return Decoded(compared, list(hashes), Evidence(reduced, pd.DataFrame(list(properties)), np.stack(grey)))


def decode_views(folder: Path, index: pd.DataFrame, size: int) -> np.ndarray:
    """uint8 (N, 2, size, size): only what `mri.matching` compares."""
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda path: views(images.read(folder / path), size), index["path"])))


def write_masks(masks: list[np.ndarray], out: Path, size: int) -> None:
    """Write bool (M, size, size) masks to out/masks.npy."""
    np.save(out / MASKS, np.stack(masks) if masks else np.zeros((0, size, size), bool))
