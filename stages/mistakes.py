"""Show the winner's mistakes on test images, the surest first, with the maps of all networks."""

from mri.base import cli
from mri.base.files import read_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MODELS, PREDICTIONS, SHEETS, SPLITS
from mri.data import dataset
from mri.networks import models
from mri.report.mistakes import mistake_sheets
from mri.report.sheets import named, save


def mistakes(params: Params) -> None:
    """Write plots/sheets/mistakes/1.jpg and so on."""
    data = dataset.read(SPLITS, params.data.classes)
    winner = read_json(DETAILS / "summary.json")["winner"]
    networks = {name: models.load(MODELS / name).model for name in params.model.architectures}
    name = named(params.data.name, params.data.source)
    sheets = mistake_sheets(data, networks, winner, PREDICTIONS, params.explain.sheet, name)
    for number, sheet in enumerate(sheets, start=1):
        save(sheet, SHEETS / "mistakes" / f"{number}.jpg")


if __name__ == "__main__":
    cli.run_stage(mistakes)
