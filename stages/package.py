"""Put what the service needs into one folder: the winner, the other networks, and what is known of them."""

import shutil

from mri import cli, registry, tracking
from mri.files import read_json, write_json
from mri.params import Params
from mri.paths import EXPORTED, METRICS, SERVICE


def package(params: Params) -> None:
    """Write artifacts/service: models/ARCH (exported networks) and service.json (the winner, the data, the scores)."""
    summary = read_json(METRICS / "summary.json")
    for name in params.model.architectures:
        shutil.copytree(EXPORTED / name, SERVICE / "models" / name)
    about = {
        "winner": summary["winner"],
        "models": list(params.model.architectures),
        "classes": params.data.classes,
        "dataset": summary["dataset"],
        "data_version": summary["data_version"],
        "protocol": summary["protocol"],
        "test": {name: row["test"] for name, row in summary["models"].items()},
    }
    write_json(about, SERVICE / "service.json")
    _register(params, about)


def _register(params: Params, about: dict) -> None:
    winner = about["winner"]
    known = {name: about[name] for name in ("dataset", "data_version", "protocol")}
    with tracking.run(f"package@{winner}", {"data": params.data.name}) as run:
        run.model(lambda folder: registry.save(EXPORTED / winner, folder, known), registry.NAME, registry.ALIAS)


if __name__ == "__main__":
    cli.run_stage(package)
