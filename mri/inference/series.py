"""The verdict on a series, made of its slices' calibrated probabilities.

    weight    w_i = (1 - p_i(no tumour))^focus, then divided by their sum: slices that show a tumour count for more.
    mean      m_c = sum_i w_i p_ic
    verdict   v_c = m_c^(1 + sharpness ln N), then divided by their sum: N slices together are surer than one.

focus and sharpness are fitted on the series of validation patients (`fit_pooling`); both 0 give the plain mean. The
verdict on a series of one slice is that slice's answer, whatever they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

TUMOUR_FREE = "notumor"
FOCUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
SHARPNESSES = (0.0, 0.1, 0.25, 0.5, 1.0)
KEY_SLICES = 3
SMALLEST = 1e-12  # of a probability, before its logarithm is taken


class Pooling(NamedTuple):
    """How slices become a verdict: see the module's text. Both are at least 0."""

    focus: float = 0.0
    sharpness: float = 0.0


class Verdict(NamedTuple):
    """probabilities: float64 (C,), they sum to 1. key: up to KEY_SLICES slices that speak most for it, best first."""

    probabilities: np.ndarray
    key: list[int]


def judge(probabilities: np.ndarray, classes: Sequence[str], pooling: Pooling) -> Verdict:
    """Return the verdict on a series. probabilities: float (N, C), a row for each slice, N >= 1."""
    weights = _weights(probabilities, classes, pooling.focus)
    mean = weights @ probabilities
    powers = np.maximum(mean, SMALLEST) ** (1 + pooling.sharpness * np.log(len(probabilities)))
    verdict = powers / powers.sum() if len(probabilities) > 1 else probabilities[0]
    support = weights * probabilities[:, int(verdict.argmax())]
    return Verdict(verdict, np.argsort(-support, kind="stable")[:KEY_SLICES].tolist())


def fit_pooling(series: Sequence[np.ndarray], labels: Sequence[int], classes: Sequence[str]) -> Pooling:
    """Return the pooling whose verdicts give the true classes the highest mean log-probability; of equals the simplest.

    series: the slices' probabilities (N, C) of each validation patient. labels: index of the true class of each.
    """

    def loss(pooling: Pooling) -> float:
        verdicts = [
            judge(one, classes, pooling).probabilities[label] for one, label in zip(series, labels, strict=True)
        ]
        return -float(np.mean(np.log(np.maximum(verdicts, SMALLEST))))

    return min((Pooling(*pair) for pair in product(FOCUSES, SHARPNESSES)), key=lambda one: (round(loss(one), 9), one))


def _weights(probabilities: np.ndarray, classes: Sequence[str], focus: float) -> np.ndarray:
    if TUMOUR_FREE not in classes:
        return np.full(len(probabilities), 1 / len(probabilities))
    evidence = np.maximum(1 - probabilities[:, list(classes).index(TUMOUR_FREE)], SMALLEST) ** focus
    return evidence / evidence.sum()
