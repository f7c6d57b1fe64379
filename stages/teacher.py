"""Train the networks that the others learn from, where params.yaml names any."""

from mri.base import cli
from mri.base.files import write_json
from mri.base.params import Params
from mri.base.paths import TEACHER
from mri.training import distributed
from stages.train import trained


def teacher(params: Params) -> None:
    """Write artifacts/teacher: one folder per teaching network, and teacher.json, how well each does."""
    architectures = params.teacher.architectures
    if architectures and params.train.devices > 1 and not distributed.started_by_torchrun():
        distributed.launch(params.train.devices, "stages.teacher", [])
        return
    with distributed.together():
        made = {name: trained(params, spec, TEACHER / name, None)[1:] for name, spec in architectures.items()}
        if distributed.rank() == 0:
            write_json({name: metrics for name, (metrics, _) in made.items()}, TEACHER / "teacher.json")
            for _, checkpoint in made.values():
                checkpoint.remove()


if __name__ == "__main__":
    cli.run_stage(teacher)
