"""Fetch a dataset from a source into a folder, decoding every file once.

- A fault of the dataset (a missing folder, a class without images, a name used twice, a table that names unknown files,
  an archive with the wrong checksum) stops the run with one line: guessing would change what is measured.
- A fault of one image (unreadable, truncated, empty, refused by `mri.data.images`, a mask that is unreadable or of
  another size) skips that image. It is listed in `skipped.csv` (id, path, reason) and counted on stderr. More than
  `MAX_SKIPPED` of all images is a fault of the dataset.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import BaseModel, ValidationError
from tqdm import tqdm

from mri.base.errors import UserError
from mri.data import dataset, images, sources
from mri.data.dataset import ImageRecord

MAX_SKIPPED = 0.05


@dataclass(frozen=True)
class _Skip:
    """An image that cannot be used, and why."""

    id: str
    path: str
    reason: str


def download(source: str, options: dict[str, Any], classes: list[str], out: Path, seed: int) -> pd.DataFrame:
    """Fetch `source` into the folder `out`, and return the index written there (`mri.data.dataset.COLUMNS`).

    options: the fields of the source module's `Options`. classes: the labels, each of which must occur.
    Files outside `out` are copied below it: PNG and JPEG byte for byte, DICOM and NIfTI as 8-bit PNG, so that no header
    and no patient's name gets into the dataset. Raises UserError for faults that the user can correct.
    """
    module = sources.load(source)
    validated = _options(module.Options, options, source)
    out.mkdir(parents=True, exist_ok=True)
    records = _checked(module.fetch(validated, classes, out, seed), classes)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and hashing release the interpreter lock
        results = pool.map(lambda record: _store(record, out), records)
        rows = list(tqdm(results, desc=f"reading {source}", unit=" images", disable=None))
    skipped = [row for row in rows if isinstance(row, _Skip)]
    _report(skipped, len(rows), out)
    frame = dataset.write_index([row for row in rows if isinstance(row, dict)], out)
    _check_classes(frame, classes, source)
    return frame


def _options(model: type[BaseModel], options: dict[str, Any], source: str) -> BaseModel:
    try:
        return model.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        legal = ", ".join(model.model_fields) or "none"
        raise UserError(f"data.options.{where} of source {source!r}: {first['msg']} (options: {legal})") from None


def _checked(records: Iterator[ImageRecord], classes: list[str]) -> Iterator[ImageRecord]:
    """Yield the records of a source. Raises UserError for an unknown label and for an id that occurs twice."""
    seen: set[str] = set()
    for record in records:
        if record.label not in classes:
            raise UserError(f"{record.path}: class {record.label!r} is not one of data.classes ({', '.join(classes)})")
        if record.id in seen:
            raise UserError(f"{record.path}: duplicate image id {record.id!r}: rename one of the files")
        seen.add(record.id)
        yield record


def _store(record: ImageRecord, out: Path) -> dict | _Skip:
    """Decode one image and its mask, put them below `out`, and return the index row, or why the image is skipped."""
    path = out / record.path  # joining keeps an absolute path as it is
    try:
        data = _bytes(path)
        pixels = images.read(data, _shown(path))
        if record.mask:
            mask_data = _bytes(out / record.mask)
            mask = np.uint8(255) * images.read_mask(mask_data, pixels.shape, _shown(out / record.mask))
            record = replace(record, mask=_place(mask_data, mask, record.mask, f"masks/{record.id}", out))
    except images.ImageError as error:
        return _Skip(record.id, _shown(path), str(error))
    record = replace(record, path=_place(data, pixels, record.path, f"images/{record.id}", out))
    digest = hashlib.sha256((out / record.path).read_bytes()).hexdigest()
    height, width = pixels.shape
    return dataset.index_row(record, digest, width, height)


def _bytes(path: Path) -> bytes:
    """Read the bytes of a file. Raises ImageError when it can't be opened."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise images.ImageError(f"{_shown(path)}: cannot be opened ({error.strerror}): check it exists") from None


def _place(data: bytes, pixels: np.ndarray, path: str, stem: str, out: Path) -> str:
    """Return a file's path below `out`, where it is copied to `stem` if it lies elsewhere.

    A copy, not a link: DVC moves a stage's outputs into its cache and makes them read-only, which through a hard link
    would happen to the user's file, and a symbolic link breaks when its target moves. Where data/ is under DVC too,
    the cache stores the bytes only once.
    """
    if not Path(path).is_absolute():
        return path
    suffix = Path(path).suffix.lower()
    if not images.is_picture(data):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        data, suffix = buffer.getvalue(), ".png"
    target = out / f"{stem}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target.relative_to(out).as_posix()


def _shown(path: Path) -> str:
    """Return a path relative to the working folder where possible, so that messages are the same on every machine."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _report(skipped: list[_Skip], total: int, out: Path) -> None:
    """Write `skipped.csv` and print how many images it lists. Raises UserError when there are too many."""
    table = out / dataset.SKIPPED
    pd.DataFrame(skipped, columns=["id", "path", "reason"]).sort_values("id").to_csv(table, index=False)
    if not skipped:
        return
    text = f"{len(skipped)} of {total} images cannot be used, listed in {table}; first: {skipped[0].reason}"
    if len(skipped) > MAX_SKIPPED * total:
        raise UserError(f"{text} (at most {MAX_SKIPPED:.0%} may be skipped)")
    print(f"warning: {text}", file=sys.stderr)


def _check_classes(frame: pd.DataFrame, classes: list[str], source: str) -> None:
    missing = [name for name in classes if name not in set(frame["label"])]
    if missing:
        raise UserError(
            f"source {source!r} has no usable image of class {missing[0]!r}: add some or change data.classes"
        )
