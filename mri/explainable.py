"""What notebooks/explainable.ipynb shows: a few test images, every network's maps of them, and the consensus."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mri import dataset, measured, models
from mri.errors import UserError
from mri.gallery import METHODS, Explained, explained
from mri.params import Params
from mri.paths import MODELS, PREDICTIONS, SPLITS
from mri.shown import candidates, draw
from mri.tables import interval

MASS, POINTING = "mass in the tumour, %", "strongest pixel in it, %"


def check() -> Params:
    """Raises UserError that says what to run when a network, or the data, isn't there."""
    params, _ = measured.load()
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
