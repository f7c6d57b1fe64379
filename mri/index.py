"""The index of a dataset: one row per image, and the rules that every row obeys.

A dataset is a folder with `index.csv` beside the files it names. The `download` stage writes one; everything
downstream reads it and nothing else about where the images came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from mri.errors import UserError

FILE = "index.csv"
SKIPPED = "skipped.csv"  # images that could not be used: id, path, reason


@dataclass(frozen=True)
class Sample:
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
COLUMNS = [*Sample.__dataclass_fields__, "sha256", "width", "height"]


def write(rows: Iterable[dict] | pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write `index.csv` with rows sorted by id, so that the order of files on disk never matters.

    Raises UserError when ids repeat.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=COLUMNS)
    repeated = frame["id"][frame["id"].duplicated()]
    if len(repeated):
        raise UserError(f"duplicate image id {repeated.iloc[0]!r} ({len(repeated)} in all): rename those files")
    frame = frame.sort_values("id", kind="stable").reset_index(drop=True)
    frame.to_csv(folder / FILE, index=False)
    return frame


def read(folder: Path) -> pd.DataFrame:
    """The index of the dataset in `folder`; text columns are strings, "" where nothing is known."""
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the stage that writes it (`dvc repro`)")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = frame.columns.intersection(NUMBERS)
    if "clean" in frame:
        frame["clean"] = frame["clean"] == "True"
    return frame.astype(dict.fromkeys(numbers, int))


def row(sample: Sample, sha256: str, width: int, height: int) -> dict:
    """An index row: what the source says of the image plus what its file says (pixels, SHA-256 of its bytes)."""
    return asdict(sample) | {"sha256": sha256, "width": width, "height": height}
