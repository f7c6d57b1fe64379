"""Draw a map's outline: where to cut it is learned on validation masks, how well it fits is measured on test masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from mri.base.intervals import estimate_mean
from mri.explanation.scores import OUTLINE, iou
from mri.inference.overlays import region

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))  # shares of a map's maximum that are tried


def fit_threshold(maps: np.ndarray, masks: np.ndarray) -> float:
    """Return the share of its maximum at which cutting a map gives the highest mean IoU with the mask.

    maps: float (N, S, S), N >= 1. masks: bool (N, S, S), none empty. The lower one of equals.
    """
    overlaps = [float(iou(region(maps, share), masks).mean()) for share in THRESHOLDS]
    return THRESHOLDS[int(np.argmax(overlaps))]


def score_outline(maps: np.ndarray, masks: np.ndarray, threshold: float, weights: np.ndarray) -> dict[str, Any]:
    """Return the threshold, and IoU, Dice and area error (each {value, low, high}) of the maps' outlines.

    weights: (B, N) of the bootstrap.
    """
    regions = region(maps, threshold)
    scores = {name: estimate_mean(score(regions, masks), weights) for name, score in OUTLINE.items()}
    return {"threshold": threshold, **scores}
