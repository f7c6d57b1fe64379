"""Cheng's brain tumour set (figshare 1512427, CC BY 4.0): 3,064 T1-CE slices of 233 patients with tumour masks.

J. Cheng et al., "Enhanced Performance of Brain Tumor Classification via Tumor Region Augmentation and Partition",
PLoS ONE 10(10), 2015. Four zips of MATLAB v7.3 files N.mat (N = 1 to 3064), each with `cjdata`: label (1 meningioma,
2 glioma, 3 pituitary), PID, image (int16), tumorMask; and cvind.mat, the authors' patient-wise folds (1 to 5).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from mri.base.errors import UserError
from mri.data import images
from mri.data.dataset import ImageRecord
from mri.data.sources import _http

LABELS = {1: "meningioma", 2: "glioma", 3: "pituitary"}
FOLDS = "cvind.mat"


class Archive(BaseModel):
    """A file of the article."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    url: str
    md5: str


class Options(BaseModel):
    """files: what to download. folder: these files (or the unpacked .mat files) placed by hand instead ("" downloads).
    slices: how many there must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: list[Archive]
    folder: str
    slices: int


def fetch(options: Options, classes: list[str], out: Path, seed: int) -> Iterator[ImageRecord]:
    """Write every slice and its mask as PNG below `out`, and yield its record.

    Grey levels are the scanner's, scaled by `images.to_uint8`. patient: the id without its trailing letter, since ids
    that differ only in it are very probably repeated scans of one person; group: the id itself.
    """
    root = _folder(options)
    slices = _slices(root)
    if len(slices) != options.slices:
        raise UserError(f"{root}: {len(slices)} slices instead of {options.slices}: fetch all archives again")
    folds = _folds(root)
    if len(folds) != len(slices):
        raise UserError(f"{root / FOLDS}: folds of {len(folds)} slices instead of {len(slices)}: fetch it again")
    for kind in ("images", "masks"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for number in tqdm(sorted(slices), desc="unpacking figshare", unit=" slices", disable=None):
        yield _write(number, *slices[number], str(folds[number - 1]), out)


def _folder(options: Options) -> Path:
    if options.folder:
        if not Path(options.folder).is_dir():
            raise UserError(
                f"{options.folder}: no such folder (data.options.folder): it should hold the article's files"
            )
        return Path(options.folder)
    folder = _http.cache("figshare")
    try:
        for file in options.files:
            _http.fetch(file.url, folder / file.name, file.md5)
    except _http.DownloadError as error:
        raise UserError(
            f"{error}; by hand: put the files of https://figshare.com/articles/dataset/1512427 into a folder and set "
            "data.options.folder to it; data=phantom works offline"
        ) from error
    return folder


def _slices(root: Path) -> dict[int, tuple[Path, str]]:
    """Locate every slice N: a zip and the name in it, or a file N.mat and ""."""
    slices: dict[int, tuple[Path, str]] = {}
    for path in sorted(root.rglob("*.mat")):
        if path.stem.isdigit():
            slices[int(path.stem)] = (path, "")
    for path in sorted(root.glob("*.zip")):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:
            raise UserError(f"{path}: damaged archive: delete it and fetch it again") from None
        for name in names:
            if (stem := Path(name).stem).isdigit() and name.endswith(".mat"):
                slices[int(stem)] = (path, name)
    return slices


def _write(number: int, path: Path, name: str, fold: str, out: Path) -> ImageRecord:
    """Convert one slice."""
    try:
        label, patient, pixels, mask = read_slice(zipfile.ZipFile(path).read(name) if name else path.read_bytes())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        where = f"{path}:{name}" if name else str(path)
        raise UserError(f"{where}: not a slice of this set ({' '.join(str(error).split())}): fetch it again") from None
    Image.fromarray(images.to_uint8(pixels)).save(out / "images" / f"{number}.png")
    Image.fromarray(mask).save(out / "masks" / f"{number}.png")
    return ImageRecord(
        id=str(number),
        path=f"images/{number}.png",
        label=label,
        source="figshare",
        patient=re.sub(r"(?<=\d)[A-Za-z]$", "", patient),
        group=patient,
        mask=f"masks/{number}.png",
        fold=fold,
    )


def read_slice(data: bytes) -> tuple[str, str, np.ndarray, np.ndarray]:
    """Read label, patient id, grey levels int16 (H, W) and mask bool (H, W) from one MATLAB v7.3 file.

    Raises OSError, KeyError or ValueError for anything else.
    """
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        slice_ = file["cjdata"]
        label = LABELS[int(slice_["label"][()].item())]
        patient = "".join(chr(code) for code in slice_["PID"][()].ravel())
        # MATLAB stores columns first, so rows and columns are swapped.
        return label, patient.strip(), slice_["image"][()].T, slice_["tumorMask"][()].T > 0


def _folds(root: Path) -> list[int]:
    """Read the authors' fold of every slice, in order."""
    import h5py

    path = next(iter(sorted(root.rglob(FOLDS))), None)
    if path is None:
        raise UserError(f"{root}: {FOLDS} is missing: put it beside the other files of the article")
    try:
        with h5py.File(path, "r") as file:
            return file["cvind"][()].astype(int).ravel().tolist()
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no list of folds in it ({' '.join(str(error).split())}): fetch it again") from None
