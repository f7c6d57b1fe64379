"""Verdicts on all slices of a patient: fitted on validation patients, scored on test patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mri.evaluation.scores import from_table, summarise
from mri.inference.series import Pooling, fit_pooling, judge


def score_series(
    val: pd.DataFrame, test: pd.DataFrame, classes: list[str], resamples: int, seed: int
) -> dict[str, Any] | None:
    """Return {pooling, n, val_n, slices, pooled, mean}; None where no patient of validation or test has several slices.

    val, test: a row for each image, with `group` (a patient), `label` and calibrated probabilities. n, val_n: patients
    with several slices of one class; slices: their mean number in test. pooled: scores of the fitted verdict on test
    patients, as `summarise` returns them. mean: those of the plain mean.
    """
    fitted_on, scored_on = _series(val, classes), _series(test, classes)
    if not fitted_on or not scored_on:
        return None
    labels = [label for _, label, _ in fitted_on]
    pooling = fit_pooling([one for one, _, _ in fitted_on], labels, classes)
    scores = {
        name: _scores(scored_on, classes, how, resamples, seed)
        for name, how in (("pooled", pooling), ("mean", Pooling()))
    }
    slices = float(np.mean([len(one) for one, _, _ in scored_on]))
    return {"pooling": pooling._asdict(), "n": len(scored_on), "val_n": len(fitted_on), "slices": slices, **scores}


def _series(table: pd.DataFrame, classes: list[str]) -> list[tuple[np.ndarray, int, Any]]:
    """Return probabilities (N, C), class and name of each patient with several slices of one class."""
    groups = table.groupby("group", sort=True)
    several = [(name, rows) for name, rows in groups if len(rows) > 1 and rows["label"].nunique() == 1]
    return [(from_table(rows, classes)[0], classes.index(rows["label"].iloc[0]), name) for name, rows in several]


def _scores(
    series: list[tuple[np.ndarray, int, Any]], classes: list[str], pooling: Pooling, resamples: int, seed: int
) -> dict[str, Any]:
    verdicts = np.stack([judge(one, classes, pooling).probabilities for one, _, _ in series])
    labels = np.array([label for _, label, _ in series])
    return summarise(verdicts, labels, np.array([name for *_, name in series]), classes, resamples, seed)
