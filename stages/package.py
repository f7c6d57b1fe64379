"""Put what the service needs into one folder: the winner, the other networks, and their scores."""

import shutil

from mri.base import cli
from mri.base.files import read_json
from mri.base.params import Params
from mri.base.paths import DETAILS, DRIFT, EXPORTED, GATES, SERVICE
from mri.inference.package import GATE, REFERENCE, list_files, write_about
from mri.inference.runtime import read_card, write_card
from mri.report import model_card
from mri.tracking import registry
from mri.tracking.run import track


def package(params: Params) -> None:
    """Write artifacts/service: models/ARCH (exported networks, each with its gate, its temperature and the thresholds
    of its prediction sets), reference.safetensors (what drift is measured from), service.json (the winner, the data,
    the scores, the hashes of cards and reference) and the winner's model card."""
    summary = read_json(DETAILS / "summary.json")
    for name in params.model.architectures:
        _package_network(name)
    shutil.copy(DRIFT / REFERENCE, SERVICE)
    about = {
        "winner": summary["winner"],
        "models": list(params.model.architectures),
        "classes": params.data.classes,
        "coverage": max(params.evaluate.coverage),
        "dataset": summary["dataset"],
        "data_version": summary["data_version"],
        "synthetic": params.data.source == "phantom",
        "protocol": summary["protocol"],
        "test": {name: row["test"] for name, row in summary["models"].items()},
    }
    write_about(about, SERVICE)
    model_card.write(params, DETAILS, SERVICE)
    _register(params, about)


def _package_network(name: str) -> None:
    folder = SERVICE / "models" / name
    shutil.copytree(EXPORTED / name, folder)
    shutil.copy(GATES / f"{name}.safetensors", folder / GATE)
    evaluation = read_json(DETAILS / "evaluate" / f"{name}.json")
    thresholds = {coverage: sets["threshold"] for coverage, sets in evaluation["conformal"].items()}
    fitted = {"temperature": evaluation["temperature"], "thresholds": thresholds, "files": list_files(folder)}
    write_card(read_card(folder) | fitted, folder)


def _register(params: Params, about: dict) -> None:
    winner = about["winner"]
    data = {name: about[name] for name in ("dataset", "data_version", "protocol")}
    with track(f"package@{winner}", {"data": params.data.name}) as run:
        run.model(
            lambda folder: registry.save(SERVICE / "models" / winner, folder, data), registry.NAME, registry.ALIAS
        )


if __name__ == "__main__":
    cli.run_stage(package)
