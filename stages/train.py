"""Train one architecture on the training part, keeping the weights that are best on the validation part."""

from contextlib import nullcontext

import pandas as pd

from mri.base import cli
from mri.base.files import write_csv, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MODELS, PLOTS
from mri.tracking.run import track
from mri.training import distributed
from mri.training.run import NoRecord, load_teacher, train_network
from mri.training.trainer import HISTORY


def train(params: Params, arch: str) -> None:
    """Write artifacts/models/ARCH (weights, model.json), metrics/details/train/ARCH.json and plots/history/ARCH.csv."""
    spec = params.architecture(arch)
    if distributed.launch(params.train.devices, "stages.train", [arch]):
        return
    with distributed.together():
        first = distributed.rank() == 0
        with track(f"train@{arch}", {"data": params.data.name}) if first else nullcontext(NoRecord()) as run:
            training = train_network(params, "train", spec, MODELS / arch, load_teacher(params), run)
        if first:
            write_csv(pd.DataFrame(training.history, columns=HISTORY), PLOTS / "history" / f"{arch}.csv", digits=5)
            write_json(training.metrics, DETAILS / "train" / f"{arch}.json")
            training.checkpoint.remove()


if __name__ == "__main__":
    cli.run_stage(train)
