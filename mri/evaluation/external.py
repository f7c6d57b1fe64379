"""Score networks on images from elsewhere: by class, source and contrast, never as one accuracy.

Class and source are confounded in such sets (one hospital's pituitary tumours, another's healthy volunteers), so one
accuracy says mostly which sources were pooled in which shares. Every share here is of images of one class; what is
pooled is the mean over the cells of class and source, each of which counts alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.base.errors import UserError
from mri.base.intervals import Estimate, estimate, estimate_mean, resample_weights
from mri.data.dataset import TUMOUR_FREE

# Images from which a cell of class and source counts in the mean over cells.
LEAST = 10
PARTS = {"class": ["label"], "class and source": ["label", "source"], "class and contrast": ["label", "contrast"]}
SHARES = ("recall", "answered", "right_when_answered", "called_no_tumour", "refused")
LOCALISATION = ("pointing_game", "rma")


def check(index: pd.DataFrame, learned: pd.DataFrame, table: str) -> None:
    """Raise UserError when images have no contrast, or a patient whom the dataset of the run has too.

    index: of the images from elsewhere. learned: of the run's dataset. table: what errors call patients.csv.
    """
    unknown = index["id"][index["contrast"] == ""]
    if len(unknown):
        raise UserError(
            f"{table}: no contrast for {unknown.iloc[0]} ({len(unknown)} such images): "
            "fill the column contrast (T1, T1+C, T2, FLAIR or unknown)"
        )
    shared = index["patient"][(index["patient"] != "") & index["patient"].isin(learned["patient"])]
    if len(shared):
        raise UserError(
            f"{table}: patient {shared.iloc[0]!r} is in the training set too ({len(shared)} images of such patients): "
            "leave these images out, or name another person otherwise"
        )


def summarise(table: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """Return the scores of one network on images from elsewhere.

    table: a row per image, with label, source, contrast, group (resampled together), predicted, answered and refused
    (bool: whether the network answers, and whether its gate refuses the image) and `LOCALISATION` (NaN where there is
    no mask or no tumour was called).
    Returns n, groups; parts, a row for each class, class and source, class and contrast: n, groups, the `SHARES` as
    {value, low, high} (95 %) or None where none is defined, and the `LOCALISATION` scores with localised, the images
    behind them; and cells, the mean over the cells of class and source (`mean_over_cells`).
    """
    if table.empty:
        return {"n": 0, "groups": 0, "parts": [], "cells": None}
    weights = resample_weights(table["group"], resamples, seed)
    parts = [
        {"by": by, **dict(zip(columns, names, strict=True)), **_scores(table, _rows(table, members), weights)}
        for by, columns in PARTS.items()
        for names, members in table.groupby(columns).indices.items()
        for names in [names if isinstance(names, tuple) else (names,)]
    ]
    return {
        "n": len(table),
        "groups": int(table["group"].nunique()),
        "parts": parts,
        "cells": mean_over_cells(table, weights),
    }


def mean_over_cells(table: pd.DataFrame, weights: np.ndarray) -> dict[str, Any] | None:
    """Return the mean of every share over the cells of class and source that have at least `LEAST` images.

    recall, answered, refused: over all of them; called_no_tumour: over those of tumours; each {value, low, high}, or
    None where no cell has any. cells: their number. left_out: {cells, images} that are too few. None without a cell.
    """
    cells = [_rows(table, members) for members in table.groupby(PARTS["class and source"]).indices.values()]
    large = [members for members in cells if members.sum() >= LEAST]
    if not large:
        return None
    rows = np.concatenate([np.ones((1, len(table))), weights])
    means: dict[str, Any] = {}
    for name in ("recall", "answered", "called_no_tumour", "refused"):
        hit, counted = _share(table, name)
        used = [members for members in large if (members & counted).any()]
        with np.errstate(invalid="ignore"):
            shares = [rows @ (hit & members) / (rows @ members) for members in used]
        if used:
            values = np.nanmean(shares, axis=0)
            means[name] = estimate(float(values[0]), values[1:])
        else:
            means[name] = None
    few = [members for members in cells if members.sum() < LEAST]
    return means | {
        "cells": len(large),
        "left_out": {"cells": len(few), "images": int(sum(members.sum() for members in few))},
    }


def _rows(table: pd.DataFrame, members: np.ndarray) -> np.ndarray:
    """Return positions as bool (N,)."""
    return np.isin(np.arange(len(table)), members)


def _share(table: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which images a share counts as hits, and of which it is the share; both bool (N,)."""
    label, predicted = table["label"].to_numpy(), table["predicted"].to_numpy()
    everything, answered = np.ones(len(table), bool), table["answered"].to_numpy(bool)
    return {
        "recall": (predicted == label, everything),
        "answered": (answered, everything),
        "right_when_answered": ((predicted == label) & answered, answered),
        "called_no_tumour": ((predicted == TUMOUR_FREE) & (label != TUMOUR_FREE), label != TUMOUR_FREE),
        "refused": (table["refused"].to_numpy(bool), everything),
    }[name]


def _scores(table: pd.DataFrame, members: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    groups = table["group"].to_numpy()
    scores: dict[str, Any] = {"n": int(members.sum()), "groups": len(np.unique(groups[members]))}
    for name in SHARES:
        hit, counted = _share(table, name)
        scores[name] = _estimate(hit, counted & members, groups, weights)
    for name in LOCALISATION:
        scores[name] = estimate_mean(np.where(members, table[name].to_numpy(np.float64), np.nan), weights)
    return scores | {"localised": int(table[LOCALISATION[0]].notna().to_numpy()[members].sum())}


def _estimate(hit: np.ndarray, counted: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> Estimate | None:
    if not counted.any():
        return None
    with np.errstate(invalid="ignore"):
        samples = weights @ (hit & counted) / (weights @ counted)
    return estimate(float(hit[counted].mean()), samples, groups=len(np.unique(groups[counted])))


def flat(models: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the parts of every network as one table, a column per number.

    models: {network: {set of images: what `summarise` returns}}.
    """
    rows = []
    for model, sets in models.items():
        for name, scores in sets.items():
            for part in scores["parts"]:
                row = {"model": model, "images": name}
                for key, value in part.items():
                    if isinstance(value, dict):
                        row |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
                    else:
                        row[key] = value
                rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else ["model", "images", "by", "label", "n"])
