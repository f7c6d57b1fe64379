"""Score trivial classifiers, which see only shortcuts: what a network must beat to have learned anything.

- majority: the most frequent class of the training images;
- nearest_neighbour: the class of the training thumbnail that correlates most;
- shortcut: a random forest on properties of the file and on brightness, not on the picture;
- grey_levels: a random forest on the distribution of grey levels, without their places;
- source: the most frequent training class of the image's source.

Where one of them scores well the dataset gives its classes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from mri.data.properties import Evidence
from mri.evaluation.scores import missed_tumours, summarise

TREES = 300


def score(
    index: pd.DataFrame,
    evidence: Evidence,
    train: np.ndarray,
    test: np.ndarray,
    classes: list[str],
    resamples: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return every trivial classifier's scores on the test images, by its name.

    index: label, source and group of N images. train, test: bool (N,). classes: in the order of every table.
    Scores are accuracy, balanced_accuracy, macro_f1 and, where there are tumours to miss, missed_tumour_rate, each as
    {value, low, high} (95 % intervals, whole groups resampled as for the networks), and per_class.<class>.recall, which
    shows which classes a shortcut gives away.
    """
    labels = index["label"].map(classes.index).to_numpy(np.int64)
    groups = index["group"].to_numpy()
    scores = {}
    for name, predicted in _predictions(index, evidence, labels, train, test, len(classes), seed).items():
        one_hot = np.eye(len(classes))[predicted]
        full = summarise(one_hot, labels[test], groups[test], classes, resamples, seed)
        scores[name] = {measure: full[measure] for measure in ("accuracy", "balanced_accuracy", "macro_f1")}
        scores[name] |= missed_tumours(full)
        scores[name]["per_class"] = {label: {"recall": row["recall"]} for label, row in full["per_class"].items()}
    return scores


def _predictions(
    index: pd.DataFrame,
    evidence: Evidence,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    classes: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Return each classifier's predicted classes for the test images, int64 (T,)."""
    thumbnails = _standardised(evidence.thumbnails)
    files = pd.get_dummies(evidence.files, dtype=np.float32).to_numpy(np.float32)
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(thumbnails[train], labels[train])
    return {
        "majority": np.full(test.sum(), _most_frequent(labels[train], classes)),
        "nearest_neighbour": nearest.predict(thumbnails[test]),
        "shortcut": _forest(files, labels, train, test, seed),
        "grey_levels": _forest(evidence.grey_levels, labels, train, test, seed),
        "source": _by_source(index["source"].to_numpy(), labels, train, test, classes),
    }


def _standardised(thumbnails: np.ndarray) -> np.ndarray:
    """Return vectors of mean 0 and length 1, float32 (N, T * T): the nearest of them correlates most."""
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors -= vectors.mean(1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _forest(features: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=-1)
    return forest.fit(features[train], labels[train]).predict(features[test])


def _by_source(
    sources: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """Predict the most frequent training class of the image's source; of all sources, for one that training lacks."""
    overall = _most_frequent(labels[train], classes)
    by_source = {name: _most_frequent(labels[train & (sources == name)], classes) for name in set(sources[train])}
    return np.array([by_source.get(name, overall) for name in sources[test]], np.int64)


def _most_frequent(labels: Sequence[int] | np.ndarray, classes: int) -> int:
    return int(np.bincount(labels, minlength=classes).argmax())
