"""Show a few test images with every network's maps of them and the consensus: on sheets, in the report's viewer and in
notebooks/explainable.ipynb."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mri.base.errors import UserError
from mri.base.params import Params
from mri.base.paths import MODELS, PREDICTIONS, SPLITS
from mri.data import dataset
from mri.data.dataset import Dataset
from mri.explanation.maps import explain_many
from mri.explanation.sampling import candidates, choose_right_and_wrong, outcomes, read_probabilities
from mri.inference.consensus import Consensus, combine, confidence_weights
from mri.inference.methods import SHOWN_METHODS
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor
from mri.report import metrics
from mri.report.sheets import explanation_sheet
from mri.report.tables import interval


@dataclass(frozen=True)
class Gallery:
    """N test images and their maps, all of the class that the networks name together (`consensus_class`).

    images: their rows of the index, with that class in `called`. pixels: uint8 (N, S, S). masks: bool (N, S, S), empty
    where there is none. called_alone: {network: (N,)}, the class that each names by itself. probability:
    {network: (N,)} of the common class. maps: {network: {method: (N, S, S)}}, raw.
    """

    images: pd.DataFrame
    pixels: np.ndarray
    masks: np.ndarray
    called_alone: dict[str, np.ndarray]
    probability: dict[str, np.ndarray]
    maps: dict[str, dict[str, np.ndarray]]
    consensus: Consensus

    def overview(self) -> pd.DataFrame:
        """Return each image's class, what it is called, every network's confidence in that, and how far maps agree."""
        confidence = {f"{name}, %": (100 * values).round(1) for name, values in self.probability.items()}
        classes = {"class": self.images["label"].tolist(), "called": self.images["called"].tolist()}
        return pd.DataFrame({**classes, **confidence, "agreement": self.consensus.agreement.round(2)})

    def sheet(self, network: str, title: str = "") -> Figure:
        """Draw the images, one network's maps by every method, and the consensus where there are several networks."""
        columns = {method.replace("_", " "): maps for method, maps in self.maps[network].items()}
        if len(self.maps) > 1:
            columns["consensus"] = self.consensus.map
        return self._sheet(columns, title or network)

    def networks(self, method: str) -> Figure:
        """Draw the images, and all networks' maps by one method beside each other."""
        return self._sheet({name: maps[method] for name, maps in self.maps.items()}, method.replace("_", " "))

    def _sheet(self, columns: dict[str, np.ndarray], title: str) -> Figure:
        texts = outcomes(self.images["label"].tolist(), self.images["called"].tolist())
        agreements = [f"\nagreement {value:.2f}" if np.isfinite(value) else "" for value in self.consensus.agreement]
        captions = [text + agreement for text, agreement in zip(texts, agreements, strict=True)]
        figure = explanation_sheet(self.pixels, self.masks, columns, captions, title)
        plt.close(figure)  # a notebook shows what a cell returns; an open figure would be shown twice
        return figure

    def save(self, path: Path) -> None:
        """Write what `mri.report.viewer` reads: id and called (N,), own/NETWORK (N,), NETWORK/METHOD and consensus
        (N, S, S)."""
        arrays: dict = {f"{name}/{method}": maps for name in self.maps for method, maps in self.maps[name].items()}
        arrays |= {f"own/{name}": called.astype(str) for name, called in self.called_alone.items()}
        arrays |= {name: self.images[name].to_numpy(str) for name in ("id", "called")}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays, consensus=self.consensus.map)


def build(
    data: Dataset, images: pd.DataFrame, networks: dict[str, Classifier], predictions: Path, methods: list[str]
) -> Gallery:
    """Explain the class `called` of rows of `candidates`. predictions: the folder of NETWORK.csv."""
    pixels, names = data.pixels[images["row"].to_numpy()], list(networks)
    target = images["called"].map(data.classes.index).to_numpy(int)
    probabilities = read_probabilities(predictions, names, images["id"], data.classes)
    batch = to_tensor(pixels)
    needed = list(dict.fromkeys([*methods, "gradcam"]))  # the consensus is made of Grad-CAMs
    maps = {name: explain_many(network, batch, target, needed) for name, network in networks.items()}
    gradcam = np.stack([of_network["gradcam"] for of_network in maps.values()])
    return Gallery(
        images,
        pixels,
        data.outlines(images),
        {name: np.array(data.classes)[scores.argmax(1)] for name, scores in zip(names, probabilities, strict=True)},
        {name: scores[np.arange(len(target)), target] for name, scores in zip(names, probabilities, strict=True)},
        {name: {method: of_network[method] for method in methods} for name, of_network in maps.items()},
        combine(gradcam, confidence_weights(probabilities, target)),
    )


def choose(
    data: Dataset, networks: dict[str, Classifier], predictions: Path, methods: list[str], count: int, seed: int
) -> Gallery:
    """Build a gallery of `count` test images, half of them called wrongly where there are as many."""
    images = choose_right_and_wrong(candidates(data, predictions, list(networks)), count, seed)
    return build(data, images, networks, predictions, methods)


def choose_by_class(
    data: Dataset, networks: dict[str, Classifier], predictions: Path, methods: list[str], count: int, seed: int
) -> Iterator[tuple[str, Gallery]]:
    """Build a gallery of every class that has test images, the tumour-free one too; otherwise like `choose`."""
    for label, images in candidates(data, predictions, list(networks)).groupby("label"):
        yield str(label), build(data, choose_right_and_wrong(images, count, seed), networks, predictions, methods)


def check() -> Params:
    """Load the parameters. Raises UserError that says what to run when a network, or the data, isn't there."""
    params, _ = metrics.load()
    for path in (SPLITS / "index.csv", *(MODELS / name for name in params.model.architectures)):
        if not path.exists():
            raise UserError(f"{path} does not exist: run `dvc repro` first (`make repro` does)")
    return params


def load(count: int = 6) -> Gallery:
    """Build a gallery of the run in the working folder, with the methods that are shown."""
    params = check()
    networks = {name: models.load(MODELS / name).model for name in params.model.architectures}
    return choose(dataset.read(SPLITS, params.data.classes), networks, PREDICTIONS, SHOWN_METHODS, count, params.seed)


MASS, POINTING = "mass in the tumour, %", "strongest pixel in it, %"


def score_table(explain: dict[str, Any]) -> pd.DataFrame:
    """Return what maps score on all masked test images, a row per network and method; empty where nothing is scored.

    explain: {network: metrics/details/explain/NETWORK.json}. Brackets are 95 % intervals.
    """
    rows = []
    for name, scores in explain.items():
        faithfulness = scores.get("faithfulness", {}).get("methods", {})
        for method, row in scores["methods"].items():
            cells: dict[str, Any] = {"network": name, "method": method.replace("_", " "), MASS: interval(row["rma"])}
            cells |= {"chance, %": round(100 * row["rma"]["chance"], 1), POINTING: interval(row["pointing_game"])}
            if method in faithfulness:
                cells["ROAD, points"] = interval(faithfulness[method]["road"])
                passed = faithfulness[method]["randomisation"]["passed"]
                cells["survives randomisation"] = "yes" if passed else "no"
            rows.append(cells)
    return pd.DataFrame(rows)
