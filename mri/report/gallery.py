"""A few test images, every network's maps of them and the consensus: what sheets, the report's viewer and
notebooks/explainable.ipynb show."""

from __future__ import annotations

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
from mri.explanation.localisation import maps_of
from mri.explanation.sampling import candidates, draw, outcomes, read_probabilities
from mri.inference.consensus import Consensus, combine, confidence_weights
from mri.networks import models
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor
from mri.report import metrics
from mri.report.sheets import explanation_sheet
from mri.report.tables import interval

METHODS = ["gradcam", "guided_backprop", "guided_gradcam"]


@dataclass(frozen=True)
class Explained:
    """N test images and their maps, all of the class that the networks agree on
    (`mri.inference.consensus.consensus_class`).

    images: their rows of the index, and that class, `called`. pixels: uint8 (N, S, S). masks: bool (N, S, S), empty
    where there is none. own: {network: (N,)}, the class that each calls by itself. probability: {network: (N,)} of the
    common class. maps: {network: {method: (N, S, S)}}, raw.
    """

    images: pd.DataFrame
    pixels: np.ndarray
    masks: np.ndarray
    own: dict[str, np.ndarray]
    probability: dict[str, np.ndarray]
    maps: dict[str, dict[str, np.ndarray]]
    consensus: Consensus

    def overview(self) -> pd.DataFrame:
        """Each image's class, what it is called, how sure each network is of that, and how far their maps agree."""
        sure = {f"{name}, %": (100 * values).round(1) for name, values in self.probability.items()}
        known = {"class": self.images["label"].tolist(), "called": self.images["called"].tolist()}
        return pd.DataFrame({**known, **sure, "agreement": self.consensus.agreement.round(2)})

    def sheet(self, network: str, title: str = "") -> Figure:
        """The images, one network's maps by every method, and the consensus of all networks where there are several."""
        columns = {method.replace("_", " "): made for method, made in self.maps[network].items()}
        if len(self.maps) > 1:
            columns["consensus"] = self.consensus.map
        return self._drawn(columns, title or network)

    def networks(self, method: str) -> Figure:
        """The images, and all networks' maps by one method beside each other."""
        return self._drawn({name: made[method] for name, made in self.maps.items()}, method.replace("_", " "))

    def _drawn(self, columns: dict[str, np.ndarray], title: str) -> Figure:
        said = outcomes(self.images["label"].tolist(), self.images["called"].tolist())
        agree = [f"\nagreement {value:.2f}" if np.isfinite(value) else "" for value in self.consensus.agreement]
        captions = [outcome + agreement for outcome, agreement in zip(said, agree, strict=True)]
        figure = explanation_sheet(self.pixels, self.masks, columns, captions, title)
        plt.close(figure)  # a notebook shows what a cell returns; an open figure it would show once more
        return figure

    def save(self, path: Path) -> None:
        """Write what `mri.report.viewer` reads: id and called (N,), own/NETWORK (N,), NETWORK/METHOD and consensus
        (N, S, S)."""
        arrays: dict = {f"{name}/{method}": made for name in self.maps for method, made in self.maps[name].items()}
        arrays |= {f"own/{name}": called.astype(str) for name, called in self.own.items()}
        arrays |= {name: self.images[name].to_numpy(str) for name in ("id", "called")}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays, consensus=self.consensus.map)


def explained(
    data: Dataset, images: pd.DataFrame, networks: dict[str, Classifier], predictions: Path, methods: list[str]
) -> Explained:
    """Explain the class `called` of rows that `mri.explanation.sampling` drew. predictions: where NETWORK.csv are."""
    pixels, names = data.pixels[images["row"].to_numpy()], list(networks)
    target = images["called"].map(data.classes.index).to_numpy(int)
    scores = read_probabilities(predictions, names, images["id"], data.classes)
    batch = to_tensor(pixels)
    wanted = list(dict.fromkeys([*methods, "gradcam"]))  # which the consensus is made of
    maps = {name: maps_of(network, batch, target, wanted) for name, network in networks.items()}
    gradcam = np.stack([made["gradcam"] for made in maps.values()])
    maps = {name: {method: made[method] for method in methods} for name, made in maps.items()}
    return Explained(
        images,
        pixels,
        data.outlines(images),
        {name: np.array(data.classes)[own.argmax(1)] for name, own in zip(names, scores, strict=True)},
        {name: own[np.arange(len(target)), target] for name, own in zip(names, scores, strict=True)},
        maps,
        combine(gradcam, confidence_weights(scores, target)),
    )


MASS, POINTING = "mass in the tumour, %", "strongest pixel in it, %"


def check() -> Params:
    """Raises UserError that says what to run when a network, or the data, isn't there."""
    params, _ = metrics.load()
    for path in (SPLITS / "index.csv", *(MODELS / name for name in params.model.architectures)):
        if not path.exists():
            raise UserError(f"{path} does not exist: run `dvc repro` first (`make repro` does)")
    return params


def load(count: int = 6) -> Explained:
    """`count` test images, half of them called wrongly where there are as many, with maps by METHODS."""
    params = check()
    data, names = dataset.read(SPLITS, params.data.classes), list(params.model.architectures)
    images = draw(candidates(data, PREDICTIONS, names), count, params.seed)
    networks = {name: models.load(MODELS / name).model for name in names}
    return explained(data, images, networks, PREDICTIONS, METHODS)


def score_table(explain: dict[str, Any]) -> pd.DataFrame:
    """What maps score on all masked test images, a row per network and method; empty where nothing could be scored.

    explain: {network: metrics/details/explain/NETWORK.json}. Brackets are 95 % intervals.
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
