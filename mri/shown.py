"""Which test images are shown with their explanations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mri.consensus import consensus_class
from mri.dataset import Dataset
from mri.figures import right_and_wrong


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
