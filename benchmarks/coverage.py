"""Simulate how often 95 % intervals hold the true score, and write results/benchmarks/coverage.json.

    python -m benchmarks.coverage

Test sets are drawn again and again from a made population whose score is known. Patients have as many images as in the
published split (results/kaggle/split.csv), and differ: some are recognised on every image, others on few. The intervals
of `mri.base.intervals` are held against the percentile interval of a bootstrap of whole patients, the usual one.

recall: of one class, by the number of patients, for three means and correlations within patients (0.84 and 0.4 are
about what glioma has in the published run). scores: of whole test sets of the published size, and of the difference of
two networks. Each has the coverage in per cent, which should be 95, and the mean width in points.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks import records
from mri.base.cli import Parser, guarded, positive
from mri.base.intervals import Estimate, estimate, resample_weights
from mri.evaluation import confidence, scores

SPLIT, OUT = Path("results/kaggle/split.csv"), Path("results/benchmarks/coverage.json")
RECALL = [(0.84, 0.4), (0.95, 0.3), (0.6, 0.3)]  # mean over images, correlation within patients
PATIENTS = (5, 8, 13, 30, 65)
RESAMPLES = 1000  # of the bootstrap
WHOLE_SHARE = 5  # whole test sets take longer: a fifth of the trials
POPULATION = 40  # test sets whose mean score counts as the true one
WHOLE = 20_000  # more groups than there are: each is left out by itself

Score = Callable[["TestSet", np.ndarray], np.ndarray]


class TestSet(NamedTuple):
    """Probabilities (N, C) of two networks, labels int (N,) and groups (N,)."""

    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def bootstrap_weights(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return how often each image counts, (B, N), when as many groups as there are are drawn with replacement."""
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    return random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)[:, member].astype(float)


def percentile(value: float, samples: np.ndarray) -> Estimate:
    """Return the central 95 % of resampled values, widened to hold the value."""
    low, high = np.nanquantile(samples, [0.025, 0.975])
    return {"value": value, "low": min(low, value), "high": max(high, value)}


class Tally:
    """Counts how often the intervals of two methods hold a true score, and adds up their widths."""

    def __init__(self) -> None:
        self.intervals: dict[str, list[Estimate]] = {"jackknife": [], "percentile": []}

    def add(self, jackknife: Estimate, usual: Estimate) -> None:
        self.intervals["jackknife"].append(jackknife)
        self.intervals["percentile"].append(usual)

    def result(self, truth: float) -> dict[str, dict[str, float]]:
        return {
            method: {
                "coverage": 100 * float(np.mean([row["low"] <= truth <= row["high"] for row in rows])),
                "width": 100 * float(np.mean([row["high"] - row["low"] for row in rows])),
            }
            for method, rows in self.intervals.items()
        }


def recall(sizes: np.ndarray, mean: float, correlation: float, patients: int, trials: int, seed: int) -> dict[str, Any]:
    """Return the coverage for one class's recall. sizes: images of the patients that may be drawn."""
    random, tally = np.random.default_rng(seed), Tally()
    strength = (1 - correlation) / correlation  # of the beta distribution of patients' own recalls
    for _ in range(trials):
        images = random.choice(sizes, patients)
        right = random.binomial(images, random.beta(mean * strength, (1 - mean) * strength, patients))
        each = np.arange(patients)
        left_out, drawn = resample_weights(each, WHOLE, 0), bootstrap_weights(each, random)
        value = float(right.sum() / images.sum())
        tally.add(
            estimate(value, left_out @ right / (left_out @ images), groups=patients),
            percentile(value, drawn @ right / (drawn @ images)),
        )
    return {"mean": mean, "correlation": correlation, "patients": patients, **tally.result(mean)}


def draw(sizes: dict[str, np.ndarray], random: np.random.Generator) -> TestSet:
    """Draw a test set with as many groups of each class as `sizes` has, whose images have the sizes drawn from it."""
    images = {name: random.choice(of_class, len(of_class)) for name, of_class in sizes.items()}
    every = np.concatenate(list(images.values()))
    labels = np.repeat(np.repeat(np.arange(len(sizes)), [len(n) for n in images.values()]), every)
    groups = np.repeat(np.arange(len(every)), every)
    shared = random.normal(size=(len(every), len(sizes)))  # what makes a patient hard for both networks

    def network() -> np.ndarray:
        patient = 1.5 * shared + 0.5 * random.normal(size=shared.shape)
        logits = 4 * np.eye(len(sizes))[labels] + patient[groups] + random.normal(size=(len(labels), len(sizes)))
        odds = np.exp(logits)
        return odds / odds.sum(1, keepdims=True)

    return TestSet(network(), network(), labels, groups)


def _macro_f1(test: TestSet, weights: np.ndarray) -> np.ndarray:
    return scores.macro_f1(test.labels, test.first.argmax(1), test.first.shape[1], weights)


def _difference(test: TestSet, weights: np.ndarray) -> np.ndarray:
    return _macro_f1(test, weights) - _macro_f1(test._replace(first=test.second), weights)


def _of_confidence(score: Callable[..., np.ndarray], *arguments: float) -> Score:
    def compute(test: TestSet, weights: np.ndarray) -> np.ndarray:
        return score(test.first.max(1), test.first.argmax(1) != test.labels, weights, *arguments)

    return compute


SCORES: dict[str, Score] = {
    "macro_f1": _macro_f1,
    "balanced_accuracy": lambda test, weights: scores.balanced_accuracy(
        test.labels, test.first.argmax(1), test.first.shape[1], weights
    ),
    "auc_of_the_first_class": lambda test, weights: scores.area_under_roc(test.first[:, 0], test.labels == 0, weights),
    "ece": lambda test, weights: confidence.expected_calibration_error(test.first, test.labels, weights),
    "augrc": _of_confidence(confidence.augrc),
    "accuracy_at_90_coverage": _of_confidence(confidence.accuracy_at_coverage, 0.9),
    "coverage_at_99_accuracy": _of_confidence(confidence.coverage_at_accuracy, 0.99),
    "difference_in_macro_f1": _difference,
}


LINEAR = ("ece", "difference_in_macro_f1")  # not computed on the logit scale


def whole(sizes: dict[str, np.ndarray], trials: int, seed: int) -> dict[str, Any]:
    """Return the coverage for every score of whole test sets."""
    random = np.random.default_rng(seed)
    tallies = {name: Tally() for name in SCORES}
    values: dict[str, list[float]] = {name: [] for name in SCORES}
    for _ in range(trials):
        test = draw(sizes, random)
        one = np.ones((1, len(test.labels)))
        left_out, drawn = resample_weights(test.groups, WHOLE, 0), bootstrap_weights(test.groups, random)
        for name, score in SCORES.items():
            value = float(score(test, one)[0])
            groups = None if name in LINEAR else int(test.groups.max()) + 1
            tallies[name].add(estimate(value, score(test, left_out), groups), percentile(value, score(test, drawn)))
            values[name].append(value)
    return {name: tally.result(_truth(SCORES[name], sizes)) for name, tally in tallies.items()}


def _truth(score: Score, sizes: dict[str, np.ndarray]) -> float:
    """Return the score of a test set so large that it varies no more."""
    test = draw({name: np.tile(of_class, POPULATION) for name, of_class in sizes.items()}, np.random.default_rng(1))
    return float(score(test, np.ones((1, len(test.labels))))[0])


def measure(trials: int) -> dict[str, Any]:
    """Return the content of coverage.json."""
    split = pd.read_csv(SPLIT, dtype=str)
    tumours = split[(split["label"] == "glioma") & split["patient"].notna()]
    tests = split[split["split"] == "test"]
    sizes = {name: rows.groupby("group").size().to_numpy() for name, rows in tests.groupby("label")}
    return {
        "trials": trials,
        "recall": [
            recall(tumours.groupby("patient").size().to_numpy(), mean, correlation, patients, trials, seed=0)
            for mean, correlation in RECALL
            for patients in PATIENTS
        ],
        "groups": {name: len(of_class) for name, of_class in sizes.items()},
        "scores": whole(sizes, max(trials // WHOLE_SHARE, 1), seed=0),
    }


def main() -> None:
    parser = Parser("benchmarks.coverage", __doc__)
    parser.add_argument("--trials", type=positive(int), default=1000, help="test sets drawn for each line")
    records.write("benchmarks.coverage", measure(parser.parse_args().trials), OUT)


if __name__ == "__main__":
    guarded(main)
