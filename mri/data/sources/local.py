"""Your own images: one folder per class.

    data/<class>/*                             or, with a test part of its own,
    data/{Training,Testing}/<class>/*          (train and test will do)
    data/masks/<the same path>.png             optional: tumour masks of their image's size, black outside the tumour;
                                               .nii or .nii.gz of the same shape for a NIfTI volume
    data/patients.csv                          optional: path,patient and, if known, source and plane of each image
    data/reference/                            optional: known slices that the audit compares images with

Files may be whatever `mri.data.images` reads, volumes and series too: those become one image per slice, written below
the dataset, and a series is a group and, where patients.csv doesn't name another, a patient. All slices of a volume
have its class; where it has a mask, only those that the mask meets are taken. Images of one patient belong together in
a split, so patients.csv is worth writing: without it only near-duplicates of single images can be kept from crossing.

Faults of the layout stop the run: a missing or unexpected folder, an empty class, two files of one name, a mask
without an image, a patients.csv that repeats a file or names an unknown one. Faults of one image skip that image
(`mri.data.download` limits how many).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import BaseModel, ConfigDict

from mri.base.errors import UserError
from mri.data import images
from mri.data.dataset import ImageRecord
from mri.data.sources import _folders

PATIENTS, MASKS, REFERENCE = "patients.csv", "masks", "reference"
COLUMNS = ("patient", "source", "plane")  # columns of patients.csv besides path


class Options(BaseModel):
    """folder: contains the class folders. source: of images for which patients.csv gives no source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    source: str


def fetch(options: Options, classes: list[str], out: Path, seed: int) -> Iterator[ImageRecord]:
    """Yield one record per image (its path is absolute) and per slice of a volume (written below `out`)."""
    root = Path(options.folder)
    if not root.is_dir():
        names = ", ".join(classes)
        raise UserError(
            f"{root}: no such folder: put class folders in it ({names}), or use data=phantom, which needs none"
        )
    files = _folders.scan(root, classes, beside=(MASKS, REFERENCE))
    patients = _patients(root / PATIENTS, {file.relative for file in files})
    masks = _masks(root / MASKS, {file.id for file in files})
    left_out: Counter[str] = Counter()
    for (label, split), part in groupby(files, lambda file: (file.label, file.split)):
        by_name = {file.relative: file for file in part}
        contents = images.look([images.file_at(file.path, file.relative) for file in by_name.values()])
        for stack in contents.stacks:
            described = {"label": label, "official_split": split, "source": options.source}
            yield from _slices(stack, by_name, masks, patients, described, out, left_out)
        used = {part.name for stack in contents.stacks for part in stack.files()}
        used |= {one.name for stack in contents.stacks for one in stack.left_out}
        used |= {f"{stack.name.partition('.zip/')[0]}.zip" for stack in contents.stacks}
        for name, file in by_name.items():
            if name not in used:
                yield ImageRecord(
                    id=file.id,
                    path=str(file.path.absolute()),
                    label=label,
                    official_split=split,
                    mask=str(masks[file.id].absolute()) if file.id in masks else "",
                    **({"source": options.source} | patients.get(name, {})),
                )
    if left_out:
        counts = "; ".join(f"{count} x {reason}" for reason, count in left_out.most_common())
        print(f"left out of series: {counts}", file=sys.stderr)


def _slices(
    stack: images.Stack,
    files: dict[str, _folders.File],
    masks: dict[str, Path],
    patients: dict[str, dict[str, str]],
    described: dict[str, str],
    out: Path,
    left_out: Counter[str],
) -> Iterator[ImageRecord]:
    """Yield a record per slice of a series, whose PNG and mask are written below `out`; count what isn't taken."""
    owner = next(files[name] for name in [stack.name, f"{stack.name.partition('.zip/')[0]}.zip"] if name in files)
    group = owner.id if owner.relative == stack.name else stack.name
    try:
        series = images.read_stack(stack)
        covers = _covers(series, owner, masks)
    except images.ImageError as error:
        left_out[str(error)] += 1
        return
    left_out.update(one.reason for one in series.left_out)
    for number, (one, cover) in enumerate(zip(series.slices, covers, strict=True), 1):
        file = files.get(one.name)
        id = file.id if (file and file is not owner) or (file and len(stack.files()) > 1) else f"{group}/{number:03}"
        if isinstance(cover, np.ndarray) and not cover.any():
            left_out["no tumour in its mask"] += 1
            continue
        mask = str(masks[id].absolute()) if id in masks else ""
        yield ImageRecord(
            id=id,
            path=_write(one.pixels, out, f"images/{id}.png"),
            mask=_write(np.uint8(255) * cover, out, f"masks/{id}.png") if isinstance(cover, np.ndarray) else mask,
            group=group,
            **(
                described
                | {"patient": group, "plane": one.plane}
                | patients.get(owner.relative, {})
                | patients.get(one.name, {})
            ),
        )


def _covers(series: images.Series, owner: _folders.File, masks: dict[str, Path]) -> list[np.ndarray] | list[None]:
    """Return the masks of a volume's slices, None for each where it has none."""
    mask = masks.get(owner.id)
    if mask is None or mask.suffix == ".png":
        return [None] * len(series.slices)
    return images.read_masks(mask, owner.path, series)


def _write(pixels: np.ndarray, out: Path, name: str) -> str:
    """Write a picture below `out` and return its path there."""
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return name


def _masks(folder: Path, ids: set[str]) -> dict[str, Path]:
    """Return the masks below `folder` by the id of their image. Raises UserError for one that has no image."""
    paths = sorted(path for path in folder.rglob("*") if path.name.lower().endswith((".png", ".nii", ".nii.gz")))
    masks = {_folders.stem(path.relative_to(folder).as_posix()): path for path in paths}
    for id, path in masks.items():
        if id not in ids:
            raise UserError(f"{path}: mask without an image: there is no {folder.parent / id}.*: rename or remove it")
    return masks


def _patients(path: Path, files: set[str]) -> dict[str, dict[str, str]]:
    """Read patients.csv: the columns of each file, by its path below the data folder, without empty cells."""
    if not path.exists():
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' own errors and wrong encodings are ValueErrors
        raise UserError(f"{path}: not a readable CSV ({' '.join(str(error).split())}): save it as UTF-8 CSV") from None
    if not {"path", "patient"} <= set(table.columns):
        raise UserError(
            f"{path}: needs the columns path,patient, has {','.join(table.columns)}: correct the first line"
        )
    table["path"] = table["path"].str.strip().str.replace("\\", "/")
    for fault, names in (
        ("names a file that does not exist", table["path"][~table["path"].isin(files)]),
        ("lists a file twice", table["path"][table["path"].duplicated()]),
    ):
        if len(names):
            raise UserError(f"{path}: {fault}: {names.iloc[0]} ({len(names)} such rows): correct or remove them")
    columns = [name for name in COLUMNS if name in table.columns]
    rows = table.set_index("path")[columns].to_dict("index")
    return {name: {key: text.strip() for key, text in row.items() if text.strip()} for name, row in rows.items()}
