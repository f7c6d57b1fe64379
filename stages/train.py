"""Train one architecture on the training part, keeping the weights that are best on the validation part."""

from pathlib import Path

import pandas as pd

from mri.base import cli
from mri.base.errors import UserError
from mri.base.files import sha256, write_csv, write_json
from mri.base.params import ArchitectureSpec, Params
from mri.base.paths import DETAILS, MODELS, PLOTS, SPLITS, TEACHER
from mri.data import dataset
from mri.networks import models, predict
from mri.networks.weights import initialise
from mri.tracking.run import Run, track
from mri.training import augmentation, distillation, distributed, norm_silu, precision, trainer
from mri.training.checkpoints import Checkpoint
from mri.training.distillation import Teacher
from mri.training.trainer import HISTORY, Trainer, derived_seed

# What makes a network's weights what they are, beside parameters and data.
CODE = (augmentation, dataset, distillation, distributed, predict, models, norm_silu, precision, trainer)


def train(params: Params, arch: str) -> None:
    """Write artifacts/models/ARCH (weights, model.json), metrics/details/train/ARCH.json and plots/history/ARCH.csv."""
    spec = params.architecture(arch)
    if params.train.devices > 1 and not distributed.started_by_torchrun():
        distributed.launch(params.train.devices, "stages.train", [arch])
        return
    with distributed.together():
        history, metrics, checkpoint = trained(params, spec, MODELS / arch, _teacher(params))
        if distributed.rank() == 0:
            write_csv(pd.DataFrame(history, columns=HISTORY), PLOTS / "history" / f"{arch}.csv", digits=5)
            write_json(metrics, DETAILS / "train" / f"{arch}.json")
            checkpoint.remove()


def _teacher(params: Params) -> Teacher | None:
    """Who the networks learn from. Raises UserError when it isn't there: labels alone would train another network."""
    found = distillation.load(TEACHER, distributed.device())
    if params.teacher.architectures and found is None:
        raise UserError(f"{TEACHER} has no network to learn from: run `dvc repro teacher` first")
    return found


def trained(
    params: Params, spec: ArchitectureSpec, folder: Path, teacher: Teacher | None
) -> tuple[list[dict], dict, Checkpoint]:
    """Train one architecture, write the model to `folder`, and return the history, what sums it up, and the checkpoint.

    DVC empties a stage's outputs before it runs, so the checkpoint is for the stage to remove, after its last output.
    """
    classes = params.data.classes
    spec = spec.model_copy(update={"input_size": params.size})
    data = dataset.read(SPLITS, classes)
    model = models.build(spec, len(classes), derived_seed(params.train.seed, "weights"))
    started_from = initialise(model, spec, params.train.weights)
    trainer = Trainer(model, data.part("train"), data.part("val"), params.train, teacher)
    checkpoint = Checkpoint(_identity(params, spec, folder, started_from, teacher is not None))
    if distributed.rank():
        return trainer.fit(checkpoint), {}, checkpoint
    with track(f"train@{spec.name}", {"stage": "train", "arch": spec.name, "data": params.data.name}) as run:
        run.params({"size": params.size, "arch": spec.name, "train": params.train.model_dump()})
        run.params({"teacher": ", ".join(params.teacher.architectures) if teacher else "none"})
        history = trainer.fit(checkpoint, lambda row: _report(spec.name, row, run))
        metrics = _metrics(history, str(trainer.dtype).removeprefix("torch."), started_from)
        run.metrics({"train": metrics})
    about = {"data": params.data.name, "data_version": dataset.version(SPLITS), "seed": params.train.seed}
    models.save(model, spec, classes, folder, about)
    return history, metrics, checkpoint


def _identity(params: Params, spec: ArchitectureSpec, folder: Path, started_from: str, taught: bool) -> dict:
    """What makes a run this run: a checkpoint of any other is never resumed."""
    return {
        "code": {module.__name__: sha256(Path(str(module.__file__))) for module in CODE},
        "started_from": started_from,
        "taught_by": [sha256(path) for path in sorted(TEACHER.glob(f"*/{models.WEIGHTS_FILE}")) if taught],
        "architecture": spec.model_dump(),
        "train": params.train.model_dump(),
        "teacher": params.teacher.model_dump(),
        "role": folder.parent.name,
        "classes": params.data.classes,
        "data": dataset.version(SPLITS),
    }


def _report(arch: str, row: dict[str, float], run: Run) -> None:
    run.metrics({"epoch": row}, step=int(row["epoch"]))
    print(
        f"{arch} epoch {row['epoch']}: loss {row['train_loss']:.3f}, validation loss {row['val_loss']:.3f}, "
        f"macro-F1 {row['val_macro_f1']:.3f}, {row['images_per_s']:.0f} images/s, {row['seconds']:.0f} s",
        flush=True,
    )


def _metrics(history: list[dict[str, float]], precision: str, started_from: str) -> dict:
    kept = max((row for row in history if row["size"] == history[-1]["size"]), key=lambda row: row["val_macro_f1"])
    return {
        "epochs": len(history),
        "best_epoch": int(kept["epoch"]),
        "val_macro_f1": kept["val_macro_f1"],
        "val_loss": kept["val_loss"],
        "seconds": sum(row["seconds"] for row in history),
        "images_per_s": kept["images_per_s"],
        "precision": precision,
        "weights": started_from,
    }


if __name__ == "__main__":
    cli.run_stage(train)
