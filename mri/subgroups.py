"""Scores of parts of the test images: by where they come from, by plane, by the size of the tumour.

A difference between parts of a few groups of images is mostly chance; the intervals say how much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.evaluation import summarise

SIZES = ("small", "medium", "large")
SCORES = ("accuracy", "balanced_accuracy", "macro_f1")


def summaries(table: pd.DataFrame, classes: list[str], resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """{"source": {name: scores}, "plane": ..., "lesion_size": ...}; what is known of no image, or equal in all, is left
    out.

    table: predictions, with the columns label, group, p_CLASS, source, plane ("" where unknown) and lesion (the
    tumour's share of the image's area, NaN where unknown). Lesion sizes are thirds of the images with a known one, and
    say "up_to" which share. Scores are n, groups, those of SCORES, each {value, low, high}, and missed_tumour_rate;
    balanced accuracy and macro-F1 are over the classes that occur.
    """
    found: dict[str, Any] = {}
    for column in ("source", "plane"):
        names = sorted({*table[column]} - {""})
        if len(names) > 1:
            found[column] = {name: _scores(table[table[column] == name], classes, resamples, seed) for name in names}
    known = table[table["lesion"].notna()]
    if len(known) >= len(SIZES):
        limits = np.quantile(known["lesion"], [1 / 3, 2 / 3, 1])
        third = np.searchsorted(limits[:2], known["lesion"])
        found["lesion_size"] = {
            name: {"up_to": float(limits[i]), **_scores(known[third == i], classes, resamples, seed)}
            for i, name in enumerate(SIZES)
            if (third == i).any()
        }
    return found


def _scores(table: pd.DataFrame, classes: list[str], resamples: int, seed: int) -> dict[str, Any]:
    probabilities = table[[f"p_{name}" for name in classes]].to_numpy()
    labels = table["label"].map(classes.index).to_numpy(np.int64)
    scores = summarise(probabilities, labels, table["group"].to_numpy(), classes, resamples, seed)
    missed = scores.get("missed_tumour_rate")
    kept = {name: scores[name] for name in ("n", "groups", *SCORES)}
    return kept if missed is None or not np.isfinite(missed) else kept | {"missed_tumour_rate": missed}
