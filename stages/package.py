"""Put what the service needs into one folder: the winner, the other networks, and their scores."""

import shutil

import numpy as np

from mri.base import cli
from mri.base.files import read_json
from mri.base.params import Params
from mri.base.paths import DETAILS, DRIFT, EXPORTED, GATES, SERVICE
from mri.data.images import prepare
from mri.data.phantom.geometry import PLANES
from mri.data.phantom.lesions import CLASSES
from mri.data.phantom.rendering import Recipe, render
from mri.inference import self_test
from mri.inference.map_worth import map_worth
from mri.inference.package import GATE, REFERENCE, list_files, write_about
from mri.inference.runtime import read_card, write_card
from mri.report import model_card
from mri.tracking import registry
from mri.tracking.run import track

# Images of the self-test: of each class, from every plane, as large as they come out of most scanners.
DRAWN, CANVAS = 4, 256


def package(params: Params) -> None:
    """Write artifacts/service: models/ARCH (exported networks, each with its gate, its self-test, its temperature, the
    thresholds of its prediction sets and what its maps are worth), reference.safetensors (what drift is measured from),
    service.json (the winner, the data, the scores, the hashes of cards and reference) and the winner's model card."""
    summary = read_json(DETAILS / "summary.json")
    pixels = _drawn(params.size)
    for name in params.model.architectures:
        _package_network(name, pixels)
    shutil.copy(DRIFT / REFERENCE, SERVICE)
    about = {
        "winner": summary["winner"],
        "models": list(params.model.architectures),
        "classes": params.data.classes,
        "coverage": summary["coverage"],
        "dataset": summary["dataset"],
        "data_version": summary["data_version"],
        "synthetic": params.data.source == "phantom",
        "protocol": summary["protocol"],
        "test": {name: row["test"] for name, row in summary["models"].items()},
        "answers": {name: row["answers"] for name, row in summary["models"].items()},
    }
    write_about(about, SERVICE)
    model_card.write(params, DETAILS, SERVICE)
    _register(params, about)


def _drawn(size: int) -> np.ndarray:
    """Return images for the self-test, uint8 (16, size, size): drawn, so that no patient's image is in a package."""
    recipe = Recipe(1, CANVAS, (13.0, 21.0), 1.0)
    drawings = [
        render(recipe, kind, PLANES[number % len(PLANES)], 0, number).images[0]
        for kind in CLASSES
        for number in range(DRAWN)
    ]
    return np.stack([prepare(drawing, size) for drawing in drawings])


def _package_network(name: str, pixels: np.ndarray) -> None:
    folder = SERVICE / "models" / name
    shutil.copytree(EXPORTED / name, folder)
    shutil.copy(GATES / f"{name}.safetensors", folder / GATE)
    self_test.write(folder, pixels)
    evaluation = read_json(DETAILS / "evaluate" / f"{name}.json")
    robustness = read_json(DETAILS / "robustness" / f"{name}.json")
    fitted = {
        "temperature": evaluation["temperature"],
        "thresholds": {coverage: sets["threshold"] for coverage, sets in evaluation["conformal"].items()},
        "gate_failures": robustness["gate"]["failures"],
        "maps": map_worth(read_json(DETAILS / "explain" / f"{name}.json")),
        "pooling": evaluation.get("series", {}).get("pooling"),
        "files": list_files(folder),
    }
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
