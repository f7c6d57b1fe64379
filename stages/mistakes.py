"""Show the winner's mistakes on test images, those it is surest of first, with the maps of all networks."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mri.base import cli
from mri.base.files import read_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MODELS, PREDICTIONS, SHEETS, SPLITS
from mri.data import dataset
from mri.data.dataset import Dataset, batches
from mri.explanation.maps import explain
from mri.explanation.sampling import outcomes
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor
from mri.report.sheets import blank, explanation_sheet, named, save

OUT = SHEETS / "mistakes"
MOST = 24  # mistakes shown: enough to see what they have in common


def mistakes(params: Params) -> None:
    """Write plots/sheets/mistakes/1.jpg and so on: Grad-CAM of the class that the winner called, wrongly, in every
    network, and what that network calls the image itself."""
    data = dataset.read(SPLITS, params.data.classes)
    winner = read_json(DETAILS / "summary.json")["winner"]
    tables = {name: _called(PREDICTIONS / f"{name}.csv", data.classes) for name in params.model.architectures}
    tests = tables[winner][tables[winner]["split"] == "test"]
    wrong = tests[tests["predicted"] != tests["label"]].sort_values("confidence", ascending=False, kind="stable")
    if wrong.empty:
        save(blank(_title(params, f"{winner} makes no mistake on {len(tests)} test images")), OUT / "1.jpg")
        return
    networks = {name: models.load(MODELS / name).model for name in params.model.architectures}
    shown = wrong.head(MOST)
    for number, part in enumerate(batches(len(shown), params.explain.sheet), start=1):
        what = f"{winner}'s {len(wrong)} mistakes on {len(tests)} test images, the surest first: {_which(part, shown)}"
        sheet = _sheet(data, shown.iloc[part], networks, tables, _title(params, what))
        save(sheet, OUT / f"{number}.jpg")


def _called(path: Path, classes: list[str]) -> pd.DataFrame:
    """A network's predictions by id, with the `confidence` in the predicted class."""
    table = pd.read_csv(path, dtype={"id": str}).set_index("id")
    return table.assign(confidence=table[[f"p_{name}" for name in classes]].max(axis=1))


def _which(part: slice, shown: pd.DataFrame) -> str:
    return f"number {part.start + 1} to {part.stop} of {len(shown)} shown"


def _sheet(
    data: Dataset, wrong: pd.DataFrame, networks: dict[str, Classifier], tables: dict[str, pd.DataFrame], title: str
) -> Figure:
    """wrong: rows of the winner's table. tables: every network's."""
    rows = data.index.set_index("id").loc[wrong.index]
    pixels = data.pixels[rows["row"].to_numpy()]
    images, called = to_tensor(pixels), wrong["predicted"].map(data.classes.index).to_numpy()
    maps = {name: explain(network, images, called) for name, network in networks.items()}
    said = outcomes(wrong["label"].tolist(), wrong["predicted"].tolist())
    captions = [f"{outcome}\nat {sure:.0%}" for outcome, sure in zip(said, wrong["confidence"], strict=True)]
    own = {name: _own(tables[name].loc[wrong.index]) for name in networks}
    return explanation_sheet(pixels, data.outlines(rows), maps, captions, title, own)


def _own(calls: pd.DataFrame) -> list[str]:
    """What a network itself calls each image."""
    return [
        f"{'right' if row.predicted == row.label else 'wrong'}: {row.predicted}, {row.confidence:.0%}"
        for row in calls.itertuples()
    ]


def _title(params: Params, what: str) -> str:
    return f"{what}\n{named(params.data.name, params.data.source)}"


if __name__ == "__main__":
    cli.run_stage(mistakes)
