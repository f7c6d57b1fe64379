"""Combine the maps of all networks, and measure whether the combination is better than the best of them; show both."""

from mri.base import cli
from mri.base.files import write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MAPS, MODELS, PREDICTIONS, SHEETS, SHOWN, SPLITS
from mri.data import dataset
from mri.data.dataset import Dataset
from mri.explanation.agreement import score_consensus
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
    seed, count = params.seed, params.explain.sheet
    what = f"maps of {best}" + (", and Grad-CAM of all networks together" if len(networks) > 1 else "")
    name = named(params.data.name, params.data.source)
    for label, shown in gallery.choose_by_class(data, networks, PREDICTIONS, SHOWN_METHODS, count, seed):
        save(shown.sheet(best, f"{label}: {what}, on {name}"), SHEETS / f"consensus/{label}.jpg")
    gallery.choose(data, networks, PREDICTIONS, params.explain.methods, 2 * count, seed).save(SHOWN)


if __name__ == "__main__":
    cli.run_stage(consensus)
