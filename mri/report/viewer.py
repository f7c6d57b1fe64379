"""What the report's viewer of explanations shows: some scans, and every network's maps of them, as pictures in text."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from PIL import Image
from scipy import ndimage

from mri.data.dataset import Dataset
from mri.report.sheets import COLOURS

CYAN = (0, 255, 255, 255)  # of outlines, as on the sheets
STOPS = 16  # colours of the bar; the page blends between them


def viewer(data: Dataset, path: Path, names: list[str]) -> dict[str, Any]:
    """{"images": [...], "methods": [...], "colours": [...]} for the template.

    An image has its label, the class `called` by all networks together, whose maps these are, the class that each calls
    by itself in `own`, the scan as a PNG, the tumour's outline as one or None, maps[network][method] and the consensus
    of several networks or None: each a PNG from black to bright on the map's own scale. colours: of that scale, from 0
    to the maximum. path: what `mri.report.gallery.Explained.save` wrote.
    """
    made = np.load(path)
    rows = data.index.set_index("id").loc[made["id"]]
    methods = [name.split("/")[1] for name in made.files if name.startswith(f"{names[0]}/")]
    maps = {name: {method: made[f"{name}/{method}"] for method in methods} for name in names}
    own, called = {name: made[f"own/{name}"] for name in names}, made["called"]
    outlines, consensus = data.outlines(rows), made["consensus"]
    images = [
        {
            "label": rows["label"].iloc[i],
            "called": str(called[i]),
            "own": {name: str(own[name][i]) for name in names},
            "scan": _png(data.pixels[rows["row"].iloc[i]]),
            "outline": _outline(outlines[i]) if outlines[i].any() else None,
            "maps": {name: {method: _coloured(maps[name][method][i]) for method in methods} for name in names},
            "consensus": _coloured(consensus[i]) if len(names) > 1 else None,
        }
        for i in range(len(rows))
    ]
    colours = matplotlib.colormaps[COLOURS](np.linspace(0, 1, STOPS))
    return {"images": images, "methods": methods, "colours": [to_hex(colour) for colour in colours]}


def _coloured(values: np.ndarray) -> str:
    """A map (H, W), from 0 to its own maximum, in the colours of all other pictures."""
    scaled = values / (values.max() or 1)
    colours = (255 * matplotlib.colormaps[COLOURS](scaled)[..., :3]).astype(np.uint8)
    return _uri(Image.fromarray(colours).quantize(64))


def _outline(mask: np.ndarray) -> str:
    """The pixels around a mask (H, W), on nothing."""
    picture = np.zeros((*mask.shape, 4), np.uint8)
    picture[ndimage.binary_dilation(mask) & ~mask] = CYAN
    return _uri(Image.fromarray(picture).quantize(2))


def _png(pixels: np.ndarray) -> str:
    return _uri(Image.fromarray(pixels))


def _uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
