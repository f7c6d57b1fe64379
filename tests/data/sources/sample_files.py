"""Small image files for the tests of data sources."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def scan(seed: int, shape: tuple[int, int] = (32, 32)) -> np.ndarray:
    """Return a disc with a random pattern on black, uint8."""
    y, x = np.indices(shape)
    inside = np.hypot(y - shape[0] / 2 + 0.5, x - shape[1] / 2 + 0.5) < min(shape) * 0.4
    return np.where(inside, np.random.default_rng(seed).integers(80, 250, shape), 0).astype(np.uint8)


def picture(seed: int, kind: str = "PNG", shape: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scan(seed, shape)).save(buffer, format=kind)
    return buffer.getvalue()


def mask(shape: tuple[int, int] = (32, 32)) -> bytes:
    """Return a PNG mask with 6 x 5 pixels of tumour."""
    pixels = np.zeros(shape, np.uint8)
    pixels[10:16, 12:17] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    """Write files by their path below `root`; return `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root
