"""Score parts of the test images: by source, by plane, by relation to training images, by tumour size.

A difference between parts of a few groups of images is mostly chance; the intervals say how much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.evaluation.scores import from_table, missed_tumours, summarise

SIZES = ("small", "medium", "large")
# With fewer images of a class, its recall means next to nothing, yet balanced accuracy weighs it like any other.
LEAST = 5
COPY, KIN, NONE = "near-duplicate in training", "same patient or source picture in training", "no relative in training"


def relatives(index: pd.DataFrame, part: pd.DataFrame) -> pd.Series:
    """Return COPY, KIN or NONE for each row of `part`: its closest relative among the training images.

    Training images are those that weights were fitted to, without validation images, which chose the epoch and the
    temperature; the shares of leaking test images in metrics/details/data.json count those too.

    index: every image, with the columns split, near and group (see `mri.data.relations.relations`); part: some of its
    rows.
    """
    train = index[index["split"] == "train"]
    copied, kin = part["near"].isin(train["near"]), part["group"].isin(train["group"])
    return pd.Series(np.select([copied, kin], [COPY, KIN], NONE), part.index)


def summaries(table: pd.DataFrame, classes: list[str], resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return {"source": {name: scores}, "plane": ..., "relatives": ..., "lesion_size": ...}.

    What is unknown for all images, or equal in all, is left out.
    table: predictions, with the columns label, group, p_CLASS, source, plane ("" where unknown), relatives (as from
    `relatives`) and lesion (the tumour's share of the image's area, NaN where unknown). Lesion sizes are thirds of the
    images where it is known, with the largest share in "up_to". Scores are n, groups, and, each {value, low, high},
    accuracy, balanced_accuracy over the classes that occur (left out where one of them has fewer than LEAST images) and
    missed_tumour_rate (left out where there is no tumour). Macro-F1 isn't among them: a single prediction of a class
    that doesn't occur would count as an F1 of 0.
    """
    parts: dict[str, Any] = {}
    for column in ("source", "plane", "relatives"):
        names = sorted({*table[column]} - {""})
        if len(names) > 1:
            parts[column] = {name: _scores(table[table[column] == name], classes, resamples, seed) for name in names}
    measured = table[table["lesion"].notna()]
    if len(measured) >= len(SIZES):
        limits = np.quantile(measured["lesion"], [1 / 3, 2 / 3, 1])
        third = np.searchsorted(limits[:2], measured["lesion"])
        parts["lesion_size"] = {
            name: {"up_to": float(limits[i]), **_scores(measured[third == i], classes, resamples, seed)}
            for i, name in enumerate(SIZES)
            if (third == i).any()
        }
    return parts


def _scores(table: pd.DataFrame, classes: list[str], resamples: int, seed: int) -> dict[str, Any]:
    scores = summarise(*from_table(table, classes), classes, resamples, seed)
    fewest = min(row["support"] for row in scores["per_class"].values())
    reported = ("accuracy", "balanced_accuracy") if fewest >= LEAST else ("accuracy",)
    return {name: scores[name] for name in ("n", "groups", *reported)} | missed_tumours(scores)
