"""The page's sample scans: one synthetic patient of each class, whom no network was trained on.

python -m service.pages.samples    # writes them anew
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mri.base.cli import Parser, guarded
from mri.data.phantom.lesions import CLASSES
from mri.data.phantom.rendering import Recipe, render
from service.pages import STATIC

SAMPLES = STATIC / "samples"
# Any seed but those of experiments, which are small numbers.
SEED, PATIENT = 2024, 1
RECIPE = Recipe(slices=5, canvas=224, radius=(13, 21), coverage=1.0)
PLANES = {"glioma": "coronal", "meningioma": "axial", "notumor": "sagittal", "pituitary": "coronal"}


def draw(kind: str) -> np.ndarray:
    """The sample of a class, uint8 (224, 224): the middle slice, where the tumour is largest."""
    return render(RECIPE, kind, PLANES[kind], SEED, PATIENT).images[RECIPE.slices // 2]


def write(folder: Path = SAMPLES) -> None:
    """One PNG per class."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in CLASSES:
        Image.fromarray(draw(kind)).save(folder / f"{kind}.png", optimize=True)


if __name__ == "__main__":
    Parser("service.pages.samples", __doc__).parse_args()
    guarded(write)
