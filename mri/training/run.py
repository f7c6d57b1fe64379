"""One training, from the split images to a saved network: what the stages teacher and train share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mri.base.errors import UserError
from mri.base.files import sha256
from mri.base.params import ArchitectureSpec, Params
from mri.base.paths import SPLITS, TEACHER
from mri.data import dataset
from mri.networks import models
from mri.networks.weights import initialise
from mri.training import distillation, distributed
from mri.training.checkpoints import Checkpoint, code_of_stage
from mri.training.distillation import Teacher
from mri.training.trainer import Trainer, derived_seed

Row = dict[str, float]


class Record(Protocol):
    """Where a training notes what it does: a run of `mri.tracking`, say."""

    def params(self, values: dict[str, Any]) -> None:
        """Note nested parameters."""

    def metrics(self, values: dict[str, Any], step: int = 0) -> None:
        """Note nested numbers, those of an epoch with its number as the step."""


class NoRecord:
    """Notes nothing: for every process of a distributed training except the first."""

    def params(self, values: dict[str, Any]) -> None:
        pass

    def metrics(self, values: dict[str, Any], step: int = 0) -> None:
        pass


class Training(NamedTuple):
    """A finished training.

    history: one row per epoch with the keys `mri.training.trainer.HISTORY`. metrics: its summary. checkpoint: to be
    removed once the stage has written its last output, since DVC empties the outputs of a stage that runs again.
    """

    history: list[Row]
    metrics: dict[str, Any]
    checkpoint: Checkpoint


def load_teacher(params: Params) -> Teacher | None:
    """Load the networks of the teacher stage; None where params.yaml names none.

    Raises UserError when they are missing: training on labels alone would give another network.
    """
    teacher = distillation.load(TEACHER, distributed.device())
    if params.teacher.architectures and teacher is None:
        raise UserError(f"{TEACHER} has no network to learn from: run `dvc repro teacher` first")
    return teacher


def train_network(
    params: Params, stage: str, spec: ArchitectureSpec, folder: Path, teacher: Teacher | None, record: Record
) -> Training:
    """Train one architecture, or resume its checkpoint, and save the network to `folder`.

    Of several processes only the first prints, saves, and returns metrics.
    """
    taught_by = ", ".join(params.teacher.architectures) if teacher else "none"
    record.params({"size": params.size, "arch": spec.name, "train": params.train.model_dump(), "teacher": taught_by})
    classes = params.data.classes
    data = dataset.read(SPLITS, classes)
    model = models.build(spec, len(classes), derived_seed(params.train.seed, "weights"))
    started_from = initialise(model, params.train.weights)
    trainer = Trainer(model, data.part("train"), data.part("val"), params.train, teacher)
    checkpoint = Checkpoint(identity(params, stage, spec, started_from, teacher is not None))

    def report(row: Row) -> None:
        record.metrics({"epoch": row}, step=int(row["epoch"]))
        print(f"{spec.name} {_line(row)}", flush=True)

    history = trainer.fit(checkpoint, report)
    if distributed.rank():
        return Training(history, {}, checkpoint)
    extra = {"data": params.data.name, "data_version": dataset.version(SPLITS), "seed": params.train.seed}
    models.save(model, classes, params.size, folder, extra)
    metrics = _metrics(history, str(trainer.dtype).removeprefix("torch."), started_from)
    record.metrics({"train": metrics})
    return Training(history, metrics, checkpoint)


def identity(params: Params, stage: str, spec: ArchitectureSpec, started_from: str, taught: bool) -> dict[str, Any]:
    """Return all that decides the weights of a training; a checkpoint of another identity is never resumed."""
    return {
        "stage": stage,
        "code": code_of_stage(stage),
        "started_from": started_from,
        "taught_by": [sha256(path) for path in sorted(TEACHER.glob(f"*/{models.WEIGHTS_FILE}")) if taught],
        "architecture": spec.model_dump(),
        "train": params.train.model_dump(),
        "teacher": params.teacher.model_dump(),
        "classes": params.data.classes,
        "data": dataset.version(SPLITS),
    }


def _line(row: Row) -> str:
    return (
        f"epoch {row['epoch']}: loss {row['train_loss']:.3f}, validation loss {row['val_loss']:.3f}, "
        f"macro-F1 {row['val_macro_f1']:.3f}, {row['images_per_s']:.0f} images/s, {row['seconds']:.0f} s"
    )


def _metrics(history: list[Row], precision: str, started_from: str) -> dict[str, Any]:
    best = max((row for row in history if row["size"] == history[-1]["size"]), key=lambda row: row["val_macro_f1"])
    return {
        "epochs": len(history),
        "best_epoch": int(best["epoch"]),
        "val_macro_f1": best["val_macro_f1"],
        "val_loss": best["val_loss"],
        "seconds": sum(row["seconds"] for row in history),
        "images_per_s": best["images_per_s"],
        "precision": precision,
        "weights": started_from,
    }
