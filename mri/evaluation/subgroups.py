"""Score parts of the images: each class by series and source, each patient, by plane, training relatives, tumour size.

A class may be recognised by the scanner or website that most of its images come from: then its recall differs between
series or sources, and the worst of these cells says more about other hospitals than the mean does. A difference between
parts of a few groups of images is mostly chance; the intervals say how much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.base.intervals import estimate_mean, resample_weights, wilson
from mri.evaluation.scores import from_table, missed_tumours, summarise

ORIGINS = ("series", "source")  # columns by which the images of each class are told apart
# A cell of class and origin counts as the worst only with so many images of so many groups.
LEAST_IMAGES, LEAST_GROUPS = 20, 4
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


def recall_by_origin(
    table: pd.DataFrame, classes: list[str], resamples: int = 2000, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the recall of every class in every series and every source, the worst first.

    table: predictions, with the columns label, predicted, group, source and series ("" where unknown; the column may
    lack). Rows are {class, by: "series" or "source", name, n, groups, recall: {value, low, high}}; images of unknown
    origin are in none. Where all images of a class are of one source, that row is its recall.
    """
    rows = []
    for by in (column for column in ORIGINS if column in table):
        known = table[table[by] != ""]
        for (label, name), cell in known.groupby(["label", by], sort=True):
            right = (cell["predicted"] == cell["label"]).to_numpy(np.float64)
            weights = resample_weights(cell["group"], resamples, seed)
            about = {"class": label, "by": by, "name": name, "n": len(cell), "groups": cell["group"].nunique()}
            rows.append(about | {"recall": estimate_mean(right, weights)})
    return sorted(rows, key=lambda row: (row["recall"]["value"], classes.index(row["class"])))


def worst_group(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the lowest recall of those rows that have LEAST_IMAGES of LEAST_GROUPS; {} where there is none.

    rows: from `recall_by_origin`. Returns {"worst_group": {value, low, high, class, by, name, n, groups}}.
    """
    enough = [row for row in rows if row["n"] >= LEAST_IMAGES and row["groups"] >= LEAST_GROUPS]
    if not enough:
        return {}
    worst = min(enough, key=lambda row: row["recall"]["value"])
    return {"worst_group": worst["recall"] | {name: worst[name] for name in ("class", "by", "name", "n", "groups")}}


def patients(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return a row per patient: group, label, series, images, right (share of them), majority.

    table: as for `recall_by_origin`, and p_CLASS. Groups of related images stand in for patients that aren't known.
    majority: the class that most images of the patient are called; of equally many, the one with the higher mean
    probability.
    """
    calls = pd.get_dummies(table["predicted"]).reindex(columns=classes, fill_value=False).astype(float)
    votes = calls.to_numpy() + 1e-6 * table[[f"p_{name}" for name in classes]].to_numpy()
    whole = table.assign(
        series=table.get("series", ""),
        right=(table["predicted"] == table["label"]).astype(float),
        **{f"votes_{i}": votes[:, i] for i in range(len(classes))},
    )
    columns = [f"votes_{i}" for i in range(len(classes))]
    by_patient = whole.groupby(["group", "label"], sort=True)
    rows = by_patient.agg(series=("series", "first"), images=("right", "size"), right=("right", "mean"))
    rows["majority"] = np.array(classes)[by_patient[columns].sum().to_numpy().argmax(1)]
    return rows.reset_index()


def patient_scores(rows: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Score patients by their majority: {n, accuracy, per_class: {class: {n, recall}}}; Wilson's 95 % intervals.

    rows: from `patients`.
    """
    right = rows["majority"] == rows["label"]
    of_class = {name: right[rows["label"] == name] for name in classes}
    return {
        "n": len(rows),
        "accuracy": wilson(int(right.sum()), len(rows)),
        "per_class": {
            name: {"n": len(calls), "recall": wilson(int(calls.sum()), len(calls))}
            for name, calls in of_class.items()
            if len(calls)
        },
    }


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
