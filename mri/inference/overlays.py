"""Explanation maps as pictures over a scan, in the project's one palette: colour for the value, opacity where it is
high.

The colours run from dark violet through red to pale yellow at evenly rising lightness (in Oklab, Ottosson 2020), so
equal steps look equal, also in greyscale print and to people who don't tell red from green.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image

# Lightness, chroma and hue (degrees) in Oklab, at the ends and in the middle; interpolated linearly.
STOPS = np.array([[0.25, 0.09, 300.0], [0.62, 0.20, 390.0], [0.97, 0.07, 460.0]])
# Oklab to linear sRGB, from its definition.
TO_CONES = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@lru_cache(maxsize=1)
def colours() -> np.ndarray:
    """Return uint8 (256, 3): the sRGB colour of each level, dark to light."""
    at = np.linspace(0, len(STOPS) - 1, 256)
    light, chroma, hue = (np.interp(at, np.arange(len(STOPS)), stops) for stops in STOPS.T)
    lab = np.stack([light, chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))], axis=1)
    linear = np.clip((lab @ TO_CONES.T) ** 3 @ TO_RGB.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table = np.rint(255 * srgb).astype(np.uint8)
    table.setflags(write=False)  # the cache hands out one array to all
    return table


def levels(attribution: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W): the map (H, W), raw and non-negative, from 0 to its own maximum as 0 to 255."""
    peak = attribution.max()
    return np.rint(255 * (attribution / peak if peak > 0 else np.zeros_like(attribution))).astype(np.uint8)


def overlay(attribution: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W, 4): the map (H, W) in colour, as opaque as its share of its own maximum."""
    opacity = levels(attribution)
    return np.concatenate([colours()[opacity], opacity[..., None]], axis=2)


def png(picture: np.ndarray) -> bytes:
    """Return a PNG file of uint8 grey levels (H, W) or colours (H, W, 3 or 4)."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
