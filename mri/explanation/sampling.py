"""Which test images are explained, scored and shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mri.data.dataset import Dataset
from mri.inference.consensus import consensus_class


def read_probabilities(folder: Path, names: list[str], ids: pd.Series, classes: list[str]) -> np.ndarray:
    """float64 (M, N, C): calibrated probabilities by M networks of N test images. folder: where NAME.csv are."""
    tables = [pd.read_csv(folder / f"{name}.csv", dtype={"id": str}).set_index("id") for name in names]
    return np.stack([table.loc[ids, [f"p_{label}" for label in classes]].to_numpy() for table in tables])


def candidates(data: Dataset, folder: Path, names: list[str]) -> pd.DataFrame:
    """The index's rows of test images that may be shown, and the class `called` by these networks together, or by one.

    Of each class, rightly and wrongly called, those with an outlined tumour; all where none has an outline.
    """
    tests = data.index[data.index["split"] == "test"].reset_index(drop=True)
    target = consensus_class(read_probabilities(folder, names, tests["id"], data.classes))
    tests["called"] = [data.classes[i] for i in target]
    outlined = tests["mask_row"] >= 0
    some_are = outlined.groupby([tests["label"], tests["called"] == tests["label"]]).transform("any")
    return tests[outlined | ~some_are].reset_index(drop=True)


def draw(tests: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` rows of `candidates`, or all: half of them called wrongly, where there are as many."""
    where = right_and_wrong(tests["label"].tolist(), tests["called"].tolist(), count, seed)
    return tests.iloc[where].reset_index(drop=True)


def for_sheet(kinds: list[str], count: int, seed: int) -> np.ndarray:
    """Positions of `count` images, or all, to show: as many of each kind as there can be, drawn at random.

    kinds: (N,), each image's class, or class and outcome as `outcomes` names them.
    """
    order = np.random.default_rng(seed).permutation(len(kinds))
    drawn = pd.Series(kinds).iloc[order]
    turn = drawn.groupby(drawn).cumcount().sort_values(kind="stable")
    kept = turn.index[:count].to_numpy(int)
    return kept[np.argsort(np.array(kinds, str)[kept], kind="stable")]


def right_and_wrong(labels: list[str], called: list[str], count: int, seed: int) -> np.ndarray:
    """Positions of `count` images, or all, to show: half of them called wrongly, or as many as there are, after those
    called rightly; of each half as many classes and outcomes as there can be, drawn at random."""
    kinds = np.array(outcomes(labels, called), str)
    right = np.array([label == name for label, name in zip(labels, called, strict=True)], bool)
    wrongly = min((~right).sum(), max(count // 2, count - right.sum()))
    halves = ((np.flatnonzero(right), count - wrongly), (np.flatnonzero(~right), wrongly))
    return np.concatenate([where[for_sheet(kinds[where].tolist(), share, seed)] for where, share in halves])


def outcomes(labels: list[str], called: list[str]) -> list[str]:
    """(N,) lines of text: the true class, then the called one and whether that is right or wrong."""
    pairs = zip(labels, called, strict=True)
    return [f"{label}\n{'right' if label == name else 'wrong'}, called {name}" for label, name in pairs]
