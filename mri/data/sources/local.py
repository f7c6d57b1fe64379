"""Your own images: one folder per class.

    data/<class>/*                             or, with a test part of its own,
    data/{Training,Testing}/<class>/*          (or train and test)
    data/masks/<the same path>.png             optional: tumour masks of their image's size, black outside the tumour
    data/patients.csv                          optional: path,patient and, if known, source and plane of each image
    data/reference/                            optional: known slices that the audit compares images with

Files may be PNG, JPEG, DICOM or NIfTI (see `mri.data.images`). A split must keep images of one patient together, so
patients.csv is worth writing: without it only near-duplicates can be kept together.

Faults of the layout stop the run: a missing or unexpected folder, an empty class, two files of one name, a mask
without an image, a patients.csv that repeats a file or names an unknown one. Faults of one image skip that image
(`mri.data.download` limits how many).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from mri.base.errors import UserError
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
    """Yield a record per file in the class folders; paths are absolute, nothing is copied here."""
    root = Path(options.folder)
    if not root.is_dir():
        names = ", ".join(classes)
        raise UserError(
            f"{root}: no such folder: put class folders in it ({names}), or use data=phantom, which needs none"
        )
    files = _folders.scan(root, classes, beside=(MASKS, REFERENCE))
    patients = _patients(root / PATIENTS, {file.relative for file in files})
    masks = _masks(root / MASKS, {file.id for file in files})
    for file in files:
        yield ImageRecord(
            id=file.id,
            path=str(file.path.absolute()),
            label=file.label,
            official_split=file.split,
            mask=str(masks[file.id].absolute()) if file.id in masks else "",
            **({"source": options.source} | patients.get(file.relative, {})),
        )


def _masks(folder: Path, ids: set[str]) -> dict[str, Path]:
    """Return the masks below `folder` by the id of their image. Raises UserError for a mask without an image."""
    masks = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.png"))}
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
