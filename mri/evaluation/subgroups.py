"""Scores of parts of the test images: by where they come from, by plane, by what training has of them, by the size of
the tumour.

A difference between parts of a few groups of images is mostly chance; the intervals say how much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.evaluation.scores import missed_tumours, summarise

SIZES = ("small", "medium", "large")
# Of fewer images of a class, recall says next to nothing, and balanced accuracy gives it as much weight as any other.
LEAST = 5
COPY, KIN, NONE = "near-duplicate in training", "same patient or source picture in training", "no relative in training"


def relatives(index: pd.DataFrame, part: pd.DataFrame) -> pd.Series:
    """COPY, KIN or NONE for each row of `part`: the closest that training has of it.

    Training is what weights were fitted to. Validation images, which chose the epoch and the temperature, aren't in it;
    the shares of leaking test images in metrics/details/data.json count them too.

    index: every image, with the columns split, near and group (see `mri.data.relations.relations`); part: some of its
    rows.
    """
    train = index[index["split"] == "train"]
    copied, kin = part["near"].isin(train["near"]), part["group"].isin(train["group"])
    return pd.Series(np.select([copied, kin], [COPY, KIN], NONE), part.index)


def summaries(table: pd.DataFrame, classes: list[str], resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """{"source": {name: scores}, "plane": ..., "relatives": ..., "lesion_size": ...}; what is known of no image, or
    equal in all, is left out.

    table: predictions, with the columns label, group, p_CLASS, source, plane ("" where unknown), relatives (of
    `relatives`) and lesion (the tumour's share of the image's area, NaN where unknown). Lesion sizes are thirds of the
    images with a known one, and say "up_to" which share. Scores are n, groups, and, each {value, low, high}, accuracy,
    balanced_accuracy over the classes that occur (left out where one of them has fewer than LEAST images) and
    missed_tumour_rate (left out where there is no tumour). Macro-F1 isn't among them: a class that doesn't occur,
    called once, would count as an F1 of 0.
    """
    found: dict[str, Any] = {}
    for column in ("source", "plane", "relatives"):
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
    fewest = min(row["support"] for row in scores["per_class"].values())
    shown = ("accuracy", "balanced_accuracy") if fewest >= LEAST else ("accuracy",)
    return {name: scores[name] for name in ("n", "groups", *shown)} | missed_tumours(scores)
