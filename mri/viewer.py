"""What the report's viewer of explanations shows: some scans, and every network's maps of them, as pictures in text."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from mri.dataset import Dataset
from mri.figures import COLOURS, for_sheet

NOT_METHODS = ("ids", "logits")  # what artifacts/maps/ARCH.npz holds besides maps


def viewer(data: Dataset, folder: Path, names: list[str], count: int, seed: int) -> dict[str, Any]:
    """{"images": [...], "methods": [...]} for the template, empty where no map was made.

    An image has its label, the scan as a PNG, the called class per network, and maps[network][method], each a PNG from
    black to bright on the map's own scale. folder: where the explain stage wrote ARCH.npz.
    """
    made = {name: np.load(folder / f"{name}.npz") for name in names}
    first = made[names[0]]
    if not len(first["ids"]):
        return {"images": [], "methods": []}
    rows = data.index.set_index("id").loc[first["ids"]]
    methods = [name for name in first.files if name not in NOT_METHODS]
    maps = {name: {method: made[name][method] for method in methods} for name in names}
    called = {name: made[name]["logits"].argmax(1) for name in names}
    images = [
        {
            "label": rows["label"].iloc[i],
            "scan": _png(data.pixels[rows["row"].iloc[i]]),
            "called": {name: data.classes[called[name][i]] for name in names},
            "maps": {name: {method: _coloured(maps[name][method][i]) for method in methods} for name in names},
        }
        for i in for_sheet(rows["label"].tolist(), count, seed)
    ]
    return {"images": images, "methods": methods}


def _coloured(values: np.ndarray) -> str:
    """A map (H, W), from 0 to its own maximum, in the colours of all other pictures."""
    scaled = values / (values.max() or 1)
    return _png((255 * matplotlib.colormaps[COLOURS](scaled)[..., :3]).astype(np.uint8))


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture if pixels.ndim == 2 else picture.quantize(64)).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
