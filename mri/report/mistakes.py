"""Show the winner's mistakes on test images, the surest first, with the maps of all networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mri.data.dataset import Dataset, batches
from mri.explanation.maps import explain
from mri.explanation.sampling import outcomes
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor
from mri.report.sheets import blank, explanation_sheet

MOST = 24  # mistakes shown: enough to see what they have in common


def mistake_sheets(
    data: Dataset, networks: dict[str, Classifier], winner: str, predictions: Path, count: int, name: str
) -> Iterator[Figure]:
    """Draw `count` mistakes a sheet: Grad-CAM of the class that the winner called, in every network, and below it what
    that network calls the image itself.

    predictions: the folder of NETWORK.csv. name: what titles call the dataset.
    """
    tables = {network: _read_calls(predictions / f"{network}.csv", data.classes) for network in networks}
    tests = tables[winner][tables[winner]["split"] == "test"]
    wrong = tests[tests["predicted"] != tests["label"]].sort_values("confidence", ascending=False, kind="stable")
    if wrong.empty:
        yield blank(f"{winner} makes no mistake on {len(tests)} test images\n{name}")
    shown = wrong.head(MOST)
    what = f"{winner}'s {len(wrong)} mistakes on {len(tests)} test images, the surest first"
    for part in batches(len(shown), count):
        title = f"{what}: number {part.start + 1} to {part.stop} of {len(shown)} shown\n{name}"
        yield _sheet(data, shown.iloc[part], networks, tables, title)


def _read_calls(path: Path, classes: list[str]) -> pd.DataFrame:
    """Read a network's predictions by id, with the `confidence` in the predicted class."""
    table = pd.read_csv(path, dtype={"id": str}).set_index("id")
    return table.assign(confidence=table[[f"p_{name}" for name in classes]].max(axis=1))


def _sheet(
    data: Dataset, wrong: pd.DataFrame, networks: dict[str, Classifier], tables: dict[str, pd.DataFrame], title: str
) -> Figure:
    """Draw one sheet. wrong: rows of the winner's table. tables: every network's."""
    rows = data.index.set_index("id").loc[wrong.index]
    pixels = data.pixels[rows["row"].to_numpy()]
    images, target = to_tensor(pixels), wrong["predicted"].map(data.classes.index).to_numpy()
    maps = {network: explain(model, images, target) for network, model in networks.items()}
    texts = outcomes(wrong["label"].tolist(), wrong["predicted"].tolist())
    captions = [f"{text}\nat {confidence:.0%}" for text, confidence in zip(texts, wrong["confidence"], strict=True)]
    below = {network: _describe_calls(tables[network].loc[wrong.index]) for network in networks}
    return explanation_sheet(pixels, data.outlines(rows), maps, captions, title, below)


def _describe_calls(calls: pd.DataFrame) -> list[str]:
    return [
        f"{'right' if row.predicted == row.label else 'wrong'}: {row.predicted}, {row.confidence:.0%}"
        for row in calls.itertuples()
    ]
