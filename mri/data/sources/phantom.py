"""Synthetic slices with exact masks: the default, which needs no network, no account and no scans.

`mri.data.phantom` draws them. Each patient has neighbouring slices of one plane. Every class has equally many patients
in each plane, and the same distribution of slices, scanners and distractors, so that only the tumour distinguishes
classes. Scores on them show whether the pipeline works, and nothing about real patients.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator
from threadpoolctl import threadpool_limits

from mri.base.errors import UserError
from mri.data.dataset import ImageRecord
from mri.data.phantom import anatomy, rendering
from mri.data.phantom.geometry import PLANES
from mri.data.phantom.lesions import CLASSES


class Options(BaseModel):
    """Number and size of the pictures; conf/data/phantom.yaml gives the reasons for its values.

    patients: per class, a multiple of three so that every class has each plane equally often.
    slices: neighbouring slices per patient. canvas: side of a picture in pixels.
    radius_mm: least and most, of the circle with the area of a tumour's cross-section.
    coverage: distance from the first to the last slice of a patient, in such radii.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients: int = Field(ge=3, multiple_of=len(PLANES))
    slices: int = Field(ge=1)
    canvas: int = Field(ge=64, le=512)
    radius_mm: tuple[float, float]
    coverage: float = Field(gt=0, le=1.2)

    @model_validator(mode="after")
    def _radius_in_order(self) -> Options:
        least, most = self.radius_mm
        if not 4 <= least <= most <= 24:
            raise ValueError("radius_mm must be [least, most] with 4 <= least <= most <= 24")
        return self


def fetch(options: Options, classes: list[str], out: Path, seed: int) -> Iterator[ImageRecord]:
    """Render every patient into `out`, images/ and masks/, and yield a record per slice.

    The same seed gives the same bytes; a patient's slices don't depend on the number of patients or on other classes.
    Raises UserError for a class without a phantom.
    """
    unknown = [name for name in classes if name not in CLASSES]
    if unknown:
        raise UserError(f"data.classes: there is no phantom of {unknown[0]!r}: choose from {', '.join(CLASSES)}")
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    anatomy.head()  # cached before the threads need it
    patients = [(kind, number) for kind in classes for number in range(options.patients)]
    # Threads suffice: numpy and scipy release the interpreter lock; more BLAS threads would only slow them down.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for records in pool.map(lambda patient: _patient(options, patient[0], patient[1], out, seed), patients):
            yield from records


def _patient(options: Options, kind: str, number: int, out: Path, seed: int) -> list[ImageRecord]:
    """Render one patient to files, and return a record per slice."""
    plane = PLANES[number % len(PLANES)]
    recipe = rendering.Recipe(options.slices, options.canvas, options.radius_mm, options.coverage)
    scan = rendering.render(recipe, kind, plane, seed, number)
    patient = f"{kind}-{number:03d}"
    records = []
    for k, (image, mask) in enumerate(zip(scan.images, scan.masks, strict=True)):
        name = f"{patient}-{k:02d}"
        path, mask_path = f"images/{name}.png", f"masks/{name}.png" if mask.any() else ""
        _write(image, out / path)
        if mask_path:
            _write(mask.astype(np.uint8) * 255, out / mask_path)
        records.append(
            ImageRecord(name, path, kind, "phantom", patient=patient, group=patient, mask=mask_path, plane=plane)
        )
    return records


def _write(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path, format="PNG")
