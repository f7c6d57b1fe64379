"""Score a network as a screening test, which only says whether there is a tumour.

Its score is the probability of any class but the tumour-free one. The operating point is chosen on validation images;
test images only say what it is worth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.base.intervals import estimate, estimate_mean, resample_weights
from mri.evaluation.scores import TUMOUR_FREE, area_under_roc

TARGET = 0.99  # share of validation tumours that the operating point has to flag
THRESHOLDS = np.arange(1, 100) / 100  # of the decision curve


def tumour_score(table: pd.DataFrame) -> np.ndarray:
    """Return the probability of a tumour, (N,), of a table of predictions with the column p_notumor."""
    return 1 - table[f"p_{TUMOUR_FREE}"].to_numpy()


def has_tumour(table: pd.DataFrame) -> np.ndarray:
    """Return which images have a tumour, bool (N,)."""
    return (table["label"] != TUMOUR_FREE).to_numpy()


def operating_point(scores: np.ndarray, tumour: np.ndarray, target: float = TARGET) -> float:
    """Return the highest threshold that at least the share `target` of tumours reaches, by their scores.

    scores: (N,), higher means a tumour. tumour: bool (N,), some of it true.
    """
    of_tumours = np.sort(scores[tumour])
    needed = int(np.ceil(target * len(of_tumours) - 1e-9))  # less than this is rounding
    return float(of_tumours[len(of_tumours) - needed])


def screen(val: pd.DataFrame, test: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Score the test images by the operating point of the validation images.

    val, test: predictions, with the columns label, group, source and p_CLASS. Returns threshold, sensitivity,
    specificity and auc, the last three as {value, low, high}; and missed_by_source, {source: {n, groups, missed}}, the
    shares of each source's tumours that stay below the threshold. {} where no class means tumour-free, or one of the
    parts lacks tumours or images without.
    """
    parts = (val, test)
    if f"p_{TUMOUR_FREE}" not in test or any(has_tumour(part).all() or not has_tumour(part).any() for part in parts):
        return {}
    threshold = operating_point(tumour_score(val), has_tumour(val))
    scores, tumour, groups = tumour_score(test), has_tumour(test), test["group"].to_numpy()
    flagged = (scores >= threshold).astype(np.float64)

    def share(values: np.ndarray, where: np.ndarray) -> dict[str, Any]:
        return estimate_mean(values[where], resample_weights(groups[where], resamples, seed))

    weights = np.concatenate([np.ones((1, len(groups))), resample_weights(groups, resamples, seed)])
    with np.errstate(invalid="ignore"):  # a resample without tumours, or with nothing else
        areas = area_under_roc(scores, tumour, weights)
    by_source = {name: tumour & (test["source"] == name).to_numpy() for name in sorted(set(test["source"][tumour]))}
    return {
        "threshold": threshold,
        "sensitivity": share(flagged, tumour),
        "specificity": share(1 - flagged, ~tumour),
        "auc": estimate(float(areas[0]), areas[1:], groups=len(np.unique(groups))),
        "missed_by_source": {
            name: {
                "n": int(where.sum()),
                "groups": len(np.unique(groups[where])),
                "missed": share(1 - flagged, where),
            }
            for name, where in by_source.items()
        },
    }


def net_benefit(scores: np.ndarray, tumour: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    """Return the net benefit, (T,), of following up whoever scores a threshold or more (Vickers & Elkin 2006).

    A threshold of 0.2 says that a missed tumour is as bad as four needless follow-ups. 1 unit is a tumour found in
    every image; the share of tumours among these images counts. scores: (N,), probabilities. tumour: bool (N,).
    """
    flagged = scores >= thresholds[:, None]
    true, false = (flagged & tumour).mean(1), (flagged & ~tumour).mean(1)
    return true - false * thresholds / (1 - thresholds)
