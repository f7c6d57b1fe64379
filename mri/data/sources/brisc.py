"""BRISC 2025 (Fateh et al., Scientific Data 13, 361, 2026; CC BY 4.0): 6,000 slices, four classes, masks, planes.

Its tumour slices come from the same sources as the Kaggle set's, so scores on one after training on the other say
nothing about new patients. File names contain part, class and plane, as in brisc2025_train_00001_gl_ax_t1.jpg.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mri.base.errors import UserError
from mri.data.dataset import ImageRecord
from mri.data.sources import _kagglehub

NAME = re.compile(r"brisc2025_(train|test)_(\d+)_(gl|me|pi|no|nt)_(ax|co|sa)_t1", re.IGNORECASE)
# "No tumour" is "nt" in the set's description and "no" in its file names.
LABELS = {"gl": "glioma", "me": "meningioma", "pi": "pituitary", "no": "notumor", "nt": "notumor"}
PLANES = {"ax": "axial", "co": "coronal", "sa": "sagittal"}


class Options(BaseModel):
    """handle: dataset and version on Kaggle. folder: files placed by hand instead ("" downloads them).
    counts: images per part and class; a set that differs is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: str
    folder: str
    counts: dict[str, dict[str, int]]


def fetch(options: Options, classes: list[str], out: Path, seed: int) -> Iterator[ImageRecord]:
    """Yield a record per image of the classification task, with the mask of the segmentation task; absolute paths."""
    by_hand = Path(options.folder) if options.folder else None
    root = _kagglehub.folder(options.handle, by_hand, "classification_task/ and segmentation_task/")
    images, masks = _find(root)
    if not images:
        raise UserError(f"{root}: no brisc2025_*.jpg below classification_task/ in it: unpack the whole archive there")
    records = [_record(stem, path, masks.get(stem)) for stem, path in sorted(images.items())]
    _check_counts(records, options.counts, root)
    yield from records


def _find(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the images of the classification task and the masks, by file name without suffix."""
    images, masks = {}, {}
    for path in root.rglob("brisc2025_*"):
        if path.parent.name == "masks":
            masks[path.stem] = path
        elif "classification_task" in path.parts:
            images[path.stem] = path
    return images, masks


def _record(stem: str, path: Path, mask: Path | None) -> ImageRecord:
    match = NAME.fullmatch(stem)
    if not match:
        raise UserError(f"{path}: not a name like brisc2025_train_00001_gl_ax_t1.jpg: restore the original names")
    split, _, label, plane = (group.lower() for group in match.groups())
    return ImageRecord(
        id=stem,
        path=str(path.absolute()),
        label=LABELS[label],
        source="brisc",
        official_split=split,
        mask=str(mask.absolute()) if mask else "",
        plane=PLANES[plane],
    )


def _check_counts(records: list[ImageRecord], counts: dict[str, dict[str, int]], root: Path) -> None:
    actual = Counter((record.official_split, record.label) for record in records)
    for split, labels in counts.items():
        for label, n in labels.items():
            if actual[split, label] != n:
                raise UserError(
                    f"{root}: {actual[split, label]} {label} images in {split} instead of {n}: "
                    "download it again, or change data.options.counts if this is the version you mean"
                )
