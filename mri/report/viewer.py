"""Collect what the report's viewer of explanations shows: some scans and every network's maps of them, as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgba_array
from PIL import Image
from scipy import ndimage

from mri.data.dataset import Dataset
from mri.inference.overlays import colours, levels
from mri.report.sheets import OUTLINE

STOPS = 16  # colours of the bar; the page interpolates between them


def viewer(data: Dataset, path: Path, names: list[str]) -> dict[str, Any]:
    """Return {"images": [...], "methods": [...], "colours": [...]} for the template.

    An image has its label, the class `called` by all networks together, which its maps explain, the class that each
    network calls by itself in `own`, the scan, the tumour's outline or None, maps[network][method], and the consensus
    of several networks or None; all pictures are PNGs, maps in colour on their own scale. colours: of that scale, from
    0 to the maximum. path: what `mri.report.gallery.Gallery.save` wrote.
    """
    arrays = np.load(path)
    rows = data.index.set_index("id").loc[arrays["id"]]
    methods = [name.split("/")[1] for name in arrays.files if name.startswith(f"{names[0]}/")]
    maps = {name: {method: arrays[f"{name}/{method}"] for method in methods} for name in names}
    called, called_alone = arrays["called"], {name: arrays[f"own/{name}"] for name in names}
    outlines, consensus = data.outlines(rows), arrays["consensus"]
    images = [
        {
            "label": rows["label"].iloc[i],
            "called": str(called[i]),
            "own": {name: str(called_alone[name][i]) for name in names},
            "scan": _uri(Image.fromarray(data.pixels[rows["row"].iloc[i]])),
            "outline": _outline(outlines[i]) if outlines[i].any() else None,
            "maps": {name: {method: _coloured(maps[name][method][i]) for method in methods} for name in names},
            "consensus": _coloured(consensus[i]) if len(names) > 1 else None,
        }
        for i in range(len(rows))
    ]
    bar = colours()[np.linspace(0, 255, STOPS).round().astype(int)]
    return {"images": images, "methods": methods, "colours": [to_hex(colour / 255) for colour in bar]}


def _coloured(values: np.ndarray) -> str:
    """Return a map (H, W) in colour, from 0 to its own maximum."""
    return _uri(Image.fromarray(colours()[levels(values)]).quantize(64))


def _outline(mask: np.ndarray) -> str:
    """Return the pixels around a mask (H, W) in the outlines' colour; the rest is transparent."""
    picture = np.zeros((*mask.shape, 4), np.uint8)
    picture[ndimage.binary_dilation(mask) & ~mask] = 255 * to_rgba_array(OUTLINE)
    return _uri(Image.fromarray(picture).quantize(2))


def _uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
