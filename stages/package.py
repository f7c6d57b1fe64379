"""Put what the service needs into one folder: the winner, the other networks, and what is known of them."""

import shutil

from mri import cli
from mri.files import read_json, write_json
from mri.params import Params
from mri.paths import DRIFT, EXPORTED, METRICS, SERVICE


def package(params: Params) -> None:
    """Write artifacts/service: models/ARCH (exported networks), reference.safetensors (what drift is measured
    from) and service.json (the winner, the data, the scores)."""
    summary = read_json(METRICS / "summary.json")
    for name in params.model.architectures:
        shutil.copytree(EXPORTED / name, SERVICE / "models" / name)
    shutil.copy(DRIFT / "reference.safetensors", SERVICE)
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


if __name__ == "__main__":
    cli.run_stage(package)
