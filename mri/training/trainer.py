"""The training loop, the same for every architecture and device.

Images come decoded from one array, are resized and augmented as whole batches, and run channels-last in whichever of
fp32 and bf16 is faster on this machine. All random numbers of an epoch are seeded from (seed, epoch), so a training
that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from mri.base.errors import UserError
from mri.base.params import Augmentation, Phase, Train
from mri.data.dataset import Part, batches
from mri.networks.models import Classifier
from mri.networks.predict import to_tensor
from mri.training import distributed
from mri.training.augmentation import augment, mix
from mri.training.checkpoints import Checkpoint
from mri.training.distillation import Teacher, distillation_loss
from mri.training.norm_silu import join_norm_and_silu
from mri.training.precision import autocast, choose_dtype

HISTORY = ["epoch", "size", "lr", "train_loss", "val_loss", "val_accuracy", "val_macro_f1", "images_per_s", "seconds"]


class TrainingError(UserError):
    """Training can't continue; the message says why and what to change."""


def to_batch(pixels: np.ndarray, size: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Convert uint8 (N, S, S) to float32 (N, 1, size, size) in [0, 1], channels-last, resized with antialiasing."""
    images = to_tensor(pixels, device)
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


def derived_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a different seed for each purpose ("weights", "order", "augmentation", ...) and epoch."""
    words = np.random.SeedSequence([seed, epoch, *purpose.encode()]).generate_state(2)
    return int(words[0]) << 31 | int(words[1]) >> 1


class Progress:
    """A progress bar, in a terminal only. Steps are weighted by image area, to which their time is proportional."""

    def __init__(self, settings: Train, steps_per_epoch: int, epochs_done: int, hidden: bool = False):
        self.epochs, self.batch = settings.epochs, settings.batch
        work = [phase.size**2 for phase in settings.phases for _ in range(phase.epochs)]
        self.bar = tqdm(
            total=steps_per_epoch * sum(work),
            initial=steps_per_epoch * sum(work[:epochs_done]),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
            leave=False,
            disable=True if hidden else None,
        )
        self.score = ""
        self.last = time.perf_counter()

    def step(self, epoch: int, phase: Phase, loss: float) -> None:
        now = time.perf_counter()
        rate, self.last = self.batch / (now - self.last), now
        self.bar.set_description_str(f"epoch {epoch}/{self.epochs} at {phase.size} px", refresh=False)
        self.bar.set_postfix_str(f"loss {loss:.3f}{self.score}, {rate:.0f} images/s", refresh=False)
        self.bar.update(phase.size**2)

    def epoch(self, macro_f1: float) -> None:
        self.score = f", validation macro-F1 {macro_f1:.3f}"
        self.last = time.perf_counter()

    def close(self) -> None:
        self.bar.close()


class Trainer:
    """One training: the model, its running average, the optimiser, and the history so far.

    `fit` trains, or resumes from the checkpoint, and returns the history, a list of dicts with the keys HISTORY.
    Afterwards `model` has the best weights: those of the running average at the epoch of the last phase with the
    highest validation macro-F1.
    """

    def __init__(self, model: Classifier, train: Part, val: Part, settings: Train, teacher: Teacher | None = None):
        self.train, self.val, self.settings, self.teacher = train, val, settings, teacher
        self.augment = settings.augment if teacher is None else _augmentation_of_student(settings)
        self.device = distributed.device()
        torch.backends.cudnn.deterministic = True  # so that GPUs too give the same weights again
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        if self.device.type == "cpu":  # its benefit was measured on CPUs only
            join_norm_and_silu(self.model)
        self.parallel = distributed.parallel(self.model)
        self.average = AveragedModel(self.model, multi_avg_fn=_average(settings.ema), use_buffers=True)
        self.optimiser = _optimiser(self.model, settings)
        self.classes = int(max(train.labels.max(), val.labels.max())) + 1
        self.class_weights = _class_weights(train.labels, self.classes).to(self.device) if settings.balance else None
        self.steps_per_epoch = max(1, len(train) // settings.batch)
        self.dtype = torch.float32
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] | None = None

    def fit(
        self, checkpoint: Checkpoint, on_epoch: Callable[[dict[str, float]], None] = lambda row: None
    ) -> list[dict[str, float]]:
        """Train to the end. Raises TrainingError when the loss is no longer finite.

        Of several processes only the first calls `on_epoch` and writes checkpoints; all return the same history.
        """
        first = distributed.rank() == 0
        state = distributed.from_first(checkpoint.load() if first else None)
        if state is None:
            self.dtype = distributed.from_first(choose_dtype(self.model, self.settings, self.device))
        else:
            self._restore(state)
        progress = Progress(self.settings, self.steps_per_epoch, len(self.history), hidden=not first)
        for epoch, phase in self._remaining():
            row = self._epoch(epoch, phase, progress)
            self.history.append(row)
            if self._is_best():
                self.best = _copy(self.average.module)
            if first:
                checkpoint.save(self._state())
                on_epoch(row)
            progress.epoch(row["val_macro_f1"])
        progress.close()
        assert self.best is not None
        self.model.load_state_dict(self.best)
        return self.history

    def _remaining(self) -> Iterator[tuple[int, Phase]]:
        """Yield the remaining epochs, ending a phase early when its score has stopped improving."""
        epoch = 0
        for phase in self.settings.phases:
            for _ in range(phase.epochs):
                epoch += 1
                if epoch > len(self.history) and not self._stalled(phase):
                    yield epoch, phase

    def _of_phase(self, phase: Phase) -> list[float]:
        return [row["val_macro_f1"] for row in self.history if row["size"] == phase.size]

    def _stalled(self, phase: Phase) -> bool:
        scores = self._of_phase(phase)
        return bool(scores) and len(scores) - 1 - int(np.argmax(scores)) >= self.settings.patience

    def _is_best(self) -> bool:
        """Check whether the latest epoch is the best so far. Only the last phase has the evaluation size."""
        last = self.settings.phases[-1]
        if self.history[-1]["size"] != last.size:
            return False
        scores = self._of_phase(last)
        return scores[-1] == max(scores) and scores.index(scores[-1]) == len(scores) - 1

    def _epoch(self, epoch: int, phase: Phase, progress: Progress) -> dict[str, float]:
        started = time.perf_counter()
        torch.manual_seed(self._process_seed("dropout", epoch))
        losses = []
        for i, batch in enumerate(self._batches(epoch, phase)):
            losses.append(self._step(*batch, epoch, i))
            progress.step(epoch, phase, losses[-1])
        seconds = time.perf_counter() - started
        return distributed.from_first(self._row(epoch, phase, losses, seconds) if distributed.rank() == 0 else {})

    def _row(self, epoch: int, phase: Phase, losses: list[float], seconds: float) -> dict[str, float]:
        """Validate, and return the history's row of an epoch whose training took `seconds`."""
        started = time.perf_counter()
        logits = self._validate(phase)
        loss = float(F.cross_entropy(logits, torch.from_numpy(self.val.labels)))
        predicted = logits.argmax(1).numpy()
        values = [
            epoch,
            phase.size,
            self.optimiser.param_groups[0]["lr"],
            float(np.mean(losses)),
            loss,
            float((predicted == self.val.labels).mean()),
            float(f1_score(self.val.labels, predicted, average="macro", zero_division=0)),
            len(losses) * self.settings.batch / seconds,
            seconds + time.perf_counter() - started,
        ]
        return dict(zip(HISTORY, values, strict=True))

    def _batches(self, epoch: int, phase: Phase) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield augmented images (B, 1, size, size) and target probabilities (B, C) of one epoch, in random order."""
        order = np.random.default_rng(derived_seed(self.settings.seed, "order", epoch)).permutation(len(self.train))
        generator = torch.Generator(self.device).manual_seed(self._process_seed("augmentation", epoch))
        full = list(batches(len(order), self.settings.batch))[: self.steps_per_epoch]  # batch norm wants full batches
        for batch in full:
            # Sorted for faster reading; the composition of a batch remains random.
            rows = distributed.share(np.sort(order[batch]))
            images = to_batch(self.train.pixels[rows], phase.size, self.device)
            targets = F.one_hot(torch.from_numpy(self.train.labels[rows]), self.classes).float().to(self.device)
            yield mix(augment(images, self.augment, generator), targets, self.augment, generator)

    def _process_seed(self, purpose: str, epoch: int) -> int:
        """Return a seed for what each process draws for itself; the first has the seed of a single process."""
        rank = distributed.rank()
        return derived_seed(self.settings.seed, f"{purpose} of {rank}" if rank else purpose, epoch)

    def _step(self, images: torch.Tensor, targets: torch.Tensor, epoch: int, index: int) -> float:
        self._set_lr(epoch - 1 + index / self.steps_per_epoch)
        self.model.train()
        images = images.contiguous(memory_format=torch.channels_last)
        self.optimiser.zero_grad(set_to_none=True)  # before activations take up memory
        with autocast(self.device, self.dtype):
            logits = self.parallel(images)
        loss = self._loss(logits.float(), images, targets)
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss became {loss.item()} in epoch {epoch}: lower train.lr (now {self.settings.lr}) or set "
                "train.precision=fp32"
            )
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        return loss.item()

    def _loss(self, logits: torch.Tensor, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smoothing, share = self.settings.label_smoothing, self.settings.distillation.share
        loss = F.cross_entropy(logits, targets, weight=self.class_weights, label_smoothing=smoothing)
        return loss if self.teacher is None else loss.lerp(distillation_loss(logits, self.teacher(images)), share)

    def _set_lr(self, epochs_done: float) -> None:
        settings = self.settings
        if settings.schedule == "cosine":
            share = epochs_done / settings.epochs
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, share))) + 1e-3
        else:
            factor = 0.3 ** _plateaus([row["val_macro_f1"] for row in self.history], patience=3)
        warmup = min(1.0, (epochs_done + 0.05) / settings.warmup_epochs) if settings.warmup_epochs else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = settings.lr * factor * warmup

    def _validate(self, phase: Phase) -> torch.Tensor:
        """Return the averaged model's logits (N, C) on the validation images."""
        self.average.eval()
        with torch.inference_mode(), autocast(self.device, self.dtype):
            parts = [self.val.pixels[batch] for batch in batches(len(self.val), 64)]
            return torch.cat([self.average(to_batch(part, phase.size, self.device)).float().cpu() for part in parts])

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "history": self.history,
            "bf16": self.dtype == torch.bfloat16,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.history = state["best"], state["history"]
        self.dtype = torch.bfloat16 if state["bf16"] else torch.float32


def _augmentation_of_student(settings: Train) -> Augmentation:
    return settings.augment.model_copy(update={"mixup": settings.distillation.mixup, "cutmix": 0.0})


def _optimiser(model: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """Return AdamW with weight decay, except for biases and normalisation."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def _average(decay: float) -> Callable:
    """Return an exponential moving average whose decay grows to `decay`, so that initial weights fade soon."""

    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            for kept, new in zip(averaged, current, strict=True):
                kept.copy_(new)
            return
        steps = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + steps) / (10 + steps)))

    return update


def _class_weights(labels: np.ndarray, classes: int) -> torch.Tensor:
    """Return float32 (C,), inversely proportional to class frequency, 1 on average over the images."""
    counts = np.bincount(labels, minlength=classes)
    return torch.tensor(len(labels) / (np.maximum(counts, 1) * np.count_nonzero(counts)), dtype=torch.float32)


def _plateaus(scores: list[float], patience: int) -> int:
    """Count how often `patience` epochs in a row have brought no better score."""
    count, best, since = 0, -math.inf, 0
    for score in scores:
        best, since = (score, 0) if score > best else (best, since + 1)
        if since == patience:
            count, since = count + 1, 0
    return count


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
