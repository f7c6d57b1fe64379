"""Choose the test images that are explained, scored and shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mri.data.dataset import Dataset
from mri.evaluation.scores import TUMOUR_FREE
from mri.inference.consensus import consensus_class


def choose_masked(data: Dataset, count: int) -> pd.DataFrame:
    """Return at most `count` test images with a mask: the same for every network, classes and patients mixed evenly."""
    tests = data.index[(data.index["split"] == "test") & (data.index["mask_row"] >= 0)]
    if tests.empty:
        return tests
    # Taking one image of every patient and class in turn keeps long series from crowding out the others.
    turn = tests.groupby(["label", "group"]).cumcount()
    turn_in_class = tests.assign(turn=turn).sort_values(["turn", "id"]).groupby("label").cumcount()
    order = turn_in_class.sort_values(kind="stable").index
    return tests.loc[order[:count]].sort_values("id").reset_index(drop=True)


def choose_tumour_free(data: Dataset, count: int, seed: int) -> pd.DataFrame:
    """Return at most `count` test images without a tumour, one of each group, in random order."""
    tests = data.index[(data.index["split"] == "test") & (data.index["label"] == TUMOUR_FREE)]
    # In random order, because the first groups of the index are often from one source.
    return tests.sample(frac=1, random_state=seed).groupby("group").head(1).head(count)


def calls_a_tumour(classes: list[str], predicted: np.ndarray) -> np.ndarray:
    """Return bool (N,): whether the predicted class, an index into `classes`, is a tumour."""
    return np.array([classes[i] != TUMOUR_FREE for i in predicted], bool)


def read_probabilities(folder: Path, names: list[str], ids: pd.Series, classes: list[str]) -> np.ndarray:
    """Read M networks' calibrated probabilities of N test images, float64 (M, N, C). folder: where NAME.csv are."""
    tables = [pd.read_csv(folder / f"{name}.csv", dtype={"id": str}).set_index("id") for name in names]
    return np.stack([table.loc[ids, [f"p_{label}" for label in classes]].to_numpy() for table in tables])


def candidates(data: Dataset, folder: Path, names: list[str]) -> pd.DataFrame:
    """Return the index's rows of test images that may be shown, with the class that these networks call in `called`.

    Of each class, rightly and wrongly called, those with an outlined tumour; all where none has an outline.
    names: networks, whose mean probability decides. folder: where NAME.csv are.
    """
    tests = data.index[data.index["split"] == "test"].reset_index(drop=True)
    target = consensus_class(read_probabilities(folder, names, tests["id"], data.classes))
    tests["called"] = [data.classes[i] for i in target]
    outlined = tests["mask_row"] >= 0
    has_outlines = outlined.groupby([tests["label"], tests["called"] == tests["label"]]).transform("any")
    return tests[outlined | ~has_outlines].reset_index(drop=True)


def choose_right_and_wrong(images: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Return `count` rows of `candidates`, or all: those called rightly, then those called wrongly.

    Half of them are called wrongly, or as many as there are; of each half as many classes and outcomes as possible,
    chosen at random.
    """
    labels, called = images["label"].to_numpy(str), images["called"].to_numpy(str)
    kinds = np.array(outcomes(labels.tolist(), called.tolist()), str)
    right = labels == called
    wrong_count = min((~right).sum(), max(count // 2, count - right.sum()))
    halves = ((np.flatnonzero(right), count - wrong_count), (np.flatnonzero(~right), wrong_count))
    chosen = [where[choose_evenly(kinds[where].tolist(), share, seed)] for where, share in halves]
    return images.iloc[np.concatenate(chosen)].reset_index(drop=True)


def choose_evenly(kinds: list[str], count: int, seed: int) -> np.ndarray:
    """Return the positions of `count` images, or all: as many of each kind as possible, at random, sorted by kind.

    kinds: (N,), each image's class, or class and outcome as `outcomes` names them.
    """
    order = np.random.default_rng(seed).permutation(len(kinds))
    shuffled = pd.Series(kinds).iloc[order]
    turn = shuffled.groupby(shuffled).cumcount().sort_values(kind="stable")
    chosen = turn.index[:count].to_numpy(int)
    return chosen[np.argsort(np.array(kinds, str)[chosen], kind="stable")]


def outcomes(labels: list[str], called: list[str]) -> list[str]:
    """Return (N,) texts of two lines: the true class, then the called one and whether that is right or wrong."""
    pairs = zip(labels, called, strict=True)
    return [f"{label}\n{'right' if label == name else 'wrong'}, called {name}" for label, name in pairs]
