"""The progress bar of a training run: one for the whole run, so that it tells when the run will end."""

from __future__ import annotations

import time

from tqdm import tqdm

from mri.params import Phase, Train


class Progress:
    """Shown in a terminal only. A step counts by its images' area, which is what its time goes by."""

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
