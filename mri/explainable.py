"""What notebooks/explainable.ipynb shows: a few test images, every network's maps of them, and the consensus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mri import dataset, measured, models
from mri.attribution import explain_many
from mri.consensus import Consensus, combine, confidence_weights, consensus_class
from mri.dataset import Dataset
from mri.errors import UserError
from mri.figures import explanation_sheet, for_sheet, outcomes
from mri.inference import to_tensor
from mri.params import Params
from mri.paths import MODELS, PREDICTIONS, SPLITS
from mri.tables import interval

METHODS = ["gradcam", "guided_backprop", "guided_gradcam"]
MASS, POINTING = "mass in the tumour, %", "strongest pixel in it, %"


@dataclass(frozen=True)
class Explained:
    """N test images and their maps, all of the class that the networks agree on (`mri.consensus.consensus_class`).

    images: their rows of the index. pixels: uint8 (N, S, S). masks: bool (N, S, S), empty where there is none.
    called: that class. probability: {network: (N,)} of it. maps: {network: {method: (N, S, S)}}, raw.
    """

    images: pd.DataFrame
    pixels: np.ndarray
    masks: np.ndarray
    called: list[str]
    probability: dict[str, np.ndarray]
    maps: dict[str, dict[str, np.ndarray]]
    consensus: Consensus

    def overview(self) -> pd.DataFrame:
        """Each image's class, what it is called, how sure each network is of that, and how far their maps agree."""
        sure = {f"{name}, %": (100 * values).round(1) for name, values in self.probability.items()}
        known = {"class": self.images["label"].tolist(), "called": self.called}
        return pd.DataFrame({**known, **sure, "agreement": self.consensus.agreement.round(2)})

    def sheet(self, network: str) -> Figure:
        """The images, one network's maps by every method, and the consensus of all networks."""
        columns = {method.replace("_", " "): made for method, made in self.maps[network].items()}
        return self._drawn(columns | {"consensus": self.consensus.map}, network)

    def networks(self, method: str) -> Figure:
        """The images, and all networks' maps by one method beside each other."""
        return self._drawn({name: made[method] for name, made in self.maps.items()}, method.replace("_", " "))

    def _drawn(self, columns: dict[str, np.ndarray], title: str) -> Figure:
        captions = outcomes(self.images["label"].tolist(), self.called)
        figure = explanation_sheet(self.pixels, self.masks, columns, captions, title)
        plt.close(figure)  # a notebook shows what a cell returns; an open figure it would show once more
        return figure


def check() -> Params:
    """Raises UserError that says what to run when a network, or the data, isn't there."""
    params, _ = measured.load()
    for path in (SPLITS / "index.csv", *(MODELS / name for name in params.model.architectures)):
        if not path.exists():
            raise UserError(f"{path} does not exist: run `dvc repro` first (`make repro` does)")
    return params


def load(count: int = 6) -> Explained:
    """`count` test images, as many of each class and outcome as there can be; those with a mask where there are any."""
    params = check()
    data, names = dataset.read(SPLITS, params.data.classes), list(params.model.architectures)
    tables = [pd.read_csv(PREDICTIONS / f"{name}.csv", dtype={"id": str}).set_index("id") for name in names]
    tests = _tests(data)
    columns = [f"p_{label}" for label in data.classes]
    target = consensus_class(np.stack([table.loc[tests["id"], columns].to_numpy() for table in tables]))
    shown = for_sheet(
        outcomes(tests["label"].tolist(), [data.classes[i] for i in target]), min(count, len(tests)), params.seed
    )
    images, target = tests.iloc[shown].reset_index(drop=True), target[shown]
    probabilities = np.stack([table.loc[images["id"], columns].to_numpy() for table in tables])
    pixels = data.pixels[images["row"].to_numpy()]
    maps = {name: explain_many(models.load(MODELS / name).model, to_tensor(pixels), target, METHODS) for name in names}
    gradcam = np.stack([made["gradcam"] for made in maps.values()])
    return Explained(
        images,
        pixels,
        _masks(data, images, pixels),
        [data.classes[i] for i in target],
        {name: p[np.arange(len(target)), target] for name, p in zip(names, probabilities, strict=True)},
        maps,
        combine(gradcam, confidence_weights(probabilities, target)),
    )


def _tests(data: Dataset) -> pd.DataFrame:
    tests = data.index[data.index["split"] == "test"]
    masked = tests[tests["mask_row"] >= 0]
    return (tests if masked.empty else masked).reset_index(drop=True)


def _masks(data: Dataset, images: pd.DataFrame, pixels: np.ndarray) -> np.ndarray:
    masks = np.zeros(pixels.shape, bool)
    known = (images["mask_row"] >= 0).to_numpy()
    masks[known] = data.masks_of(images[known])
    return masks


def scores(explain: dict[str, Any]) -> pd.DataFrame:
    """What maps score on all masked test images, a row per network and method; empty where nothing could be scored.

    explain: {network: metrics/explain/NETWORK.json}. Brackets are 95 % intervals.
    """
    rows = []
    for name, found in explain.items():
        changed = found.get("faithfulness", {}).get("methods", {})
        for method, row in found["methods"].items():
            said: dict[str, Any] = {"network": name, "method": method.replace("_", " "), MASS: interval(row["rma"])}
            said |= {"chance, %": round(100 * row["rma"]["chance"], 1), POINTING: interval(row["pointing_game"])}
            if method in changed:
                said["ROAD, points"] = interval(changed[method]["road"])
                said["survives randomisation"] = "yes" if changed[method]["randomisation"]["passed"] else "no"
            rows.append(said)
    return pd.DataFrame(rows)
