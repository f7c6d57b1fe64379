"""Show the winner's mistakes on test images, those it is surest of first, with the maps of all networks."""

import numpy as np
import pandas as pd

from mri import cli, dataset, models
from mri.attribution import explain
from mri.dataset import Dataset
from mri.figures import blank, explanation_sheet, named, save
from mri.files import read_json
from mri.inference import to_tensor
from mri.params import Params
from mri.paths import METRICS, MODELS, PREDICTIONS, SHEETS, SPLITS

OUT = SHEETS / "mistakes/mistakes.jpg"


def mistakes(params: Params) -> None:
    """Write plots/sheets/mistakes: Grad-CAM of the class that the winner called, wrongly, in every network."""
    data = dataset.read(SPLITS, params.data.classes)
    winner = read_json(METRICS / "summary.json")["winner"]
    table = pd.read_csv(PREDICTIONS / f"{winner}.csv", dtype={"id": str})
    table["confidence"] = table[[f"p_{name}" for name in data.classes]].max(axis=1)
    tests = table[table["split"] == "test"]
    wrong = tests[tests["predicted"] != tests["label"]].sort_values("confidence", ascending=False)
    if wrong.empty:
        save(blank(_title(params, f"{winner} makes no mistake on {len(tests)} test images")), OUT)
        return
    shown = wrong.head(params.explain.sheet).merge(data.index[["id", "row", "mask_row"]], on="id")
    pixels = data.pixels[shown["row"].to_numpy()]
    called = shown["predicted"].map(data.classes.index).to_numpy()
    images = to_tensor(pixels)
    maps = {name: explain(models.load(MODELS / name).model, images, called) for name in params.model.architectures}
    captions = [f"{row.label}\ncalled {row.predicted}\nat {row.confidence:.0%}" for row in shown.itertuples()]
    title = _title(params, f"{winner}'s {len(wrong)} mistakes on {len(tests)} test images, the surest first")
    save(explanation_sheet(pixels, _masks(data, shown, pixels), maps, captions, title), OUT)


def _title(params: Params, what: str) -> str:
    return f"{what}: {named(params.data.name, params.data.source)}"


def _masks(data: Dataset, shown: pd.DataFrame, pixels: np.ndarray) -> np.ndarray:
    """bool (N, S, S), empty where the tumour's outline isn't known."""
    masks = np.zeros(pixels.shape, bool)
    known = (shown["mask_row"] >= 0).to_numpy()
    masks[known] = data.masks_of(shown[known])
    return masks


if __name__ == "__main__":
    cli.run_stage(mistakes)
