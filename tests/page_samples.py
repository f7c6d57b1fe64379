"""Draw the page's sample scans: one synthetic patient of each class, whom no network was trained on.

python -m tests.page_samples    # writes them to service/pages/static/samples
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mri.data.phantom.lesions import CLASSES
from mri.data.phantom.rendering import Recipe, render
from service.pages import SAMPLES

# Experiments use small numbers as seeds, so none of their patients is this one.
SEED, PATIENT = 2024, 1
RECIPE = Recipe(slices=5, canvas=224, radius=(13, 21), coverage=1.0)
PLANES = {"glioma": "coronal", "meningioma": "axial", "notumor": "sagittal", "pituitary": "coronal"}


def draw(label: str) -> np.ndarray:
    """Draw the sample of a class, uint8 (224, 224): the middle slice, where the tumour is largest."""
    return render(RECIPE, label, PLANES[label], SEED, PATIENT).images[RECIPE.slices // 2]


def write(folder: Path = SAMPLES) -> None:
    """Write one PNG for each class."""
    for label in CLASSES:
        Image.fromarray(draw(label)).save(folder / f"{label}.png", optimize=True)


if __name__ == "__main__":
    write()
