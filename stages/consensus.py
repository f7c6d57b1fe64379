"""Combine the maps of all networks, and measure whether the combination is better than the best of them; show both."""

import numpy as np

from mri.base import cli
from mri.base.files import write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MAPS, MODELS, PREDICTIONS, SHEETS, SHOWN, SPLITS
from mri.data import dataset
from mri.data.dataset import Dataset
from mri.explanation.agreement import score_consensus
from mri.explanation.sampling import choose_right_and_wrong
from mri.inference.methods import SHOWN_METHODS
from mri.networks import models
from mri.networks.models import Classifier
from mri.report import gallery
from mri.report.sheets import named, save


def consensus(params: Params) -> None:
    """Write metrics/details/consensus.json, plots/sheets/consensus/CLASS.jpg and artifacts/shown.npz."""
    data = dataset.read(SPLITS, params.data.classes)
    networks = {name: models.load(MODELS / name).model for name in params.model.architectures}
    metrics = score_consensus(params, data, networks, PREDICTIONS, MAPS)
    write_json(metrics, DETAILS / "consensus.json")
    _show(params, data, networks, metrics.get("best_single", {}).get("rma", next(iter(networks))))


def _show(params: Params, data: Dataset, networks: dict[str, Classifier], best: str) -> None:
    """Write a sheet per class, with maps of the network `best`, and the maps that the report's viewer shows."""
    seed, count, methods = params.seed, params.explain.sheet, params.explain.methods
    columns = [name for name in SHOWN_METHODS if name in methods]
    what = f"maps of {best}" + (", and Grad-CAM of all networks together" if len(networks) > 1 else "")
    name = named(params.data.name, params.data.source)
    shown = gallery.choose_by_class(data, networks, PREDICTIONS, methods, count, seed)
    labels = shown.images["label"].to_numpy(str)
    for label in np.unique(labels):
        sheet = shown.of(np.flatnonzero(labels == label)).sheet(best, f"{label}: {what}, on {name}", columns)
        save(sheet, SHEETS / f"consensus/{label}.jpg")
    positions = shown.images.assign(position=np.arange(len(labels)))
    viewed = choose_right_and_wrong(positions, 2 * count, seed)["position"].to_numpy(int)
    shown.of(viewed).save(SHOWN)


if __name__ == "__main__":
    cli.run_stage(consensus)
