"""Train the networks that the others learn from, where params.yaml names any."""

from contextlib import nullcontext

from mri.base import cli
from mri.base.files import write_json
from mri.base.params import Params
from mri.base.paths import TEACHER
from mri.tracking.run import track
from mri.training import distributed
from mri.training.run import NoRecord, Training, train_network


def teacher(params: Params) -> None:
    """Write artifacts/teacher: one folder per teaching network, and teacher.json, the metrics of each."""
    architectures = params.teacher.architectures
    if architectures and distributed.launch(params.train.devices, "stages.teacher", []):
        return
    with distributed.together():
        first = distributed.rank() == 0
        trainings: dict[str, Training] = {}
        for name, spec in architectures.items():
            with track(f"teacher@{name}", {"data": params.data.name}) if first else nullcontext(NoRecord()) as run:
                trainings[name] = train_network(params, "teacher", spec, TEACHER / name, None, run)
        if first:
            write_json({name: training.metrics for name, training in trainings.items()}, TEACHER / "teacher.json")
            for training in trainings.values():
                training.checkpoint.remove()


if __name__ == "__main__":
    cli.run_stage(teacher)
