import itertools

import numpy as np
import pytest
import torch

from mri.base.params import Train
from mri.networks import models
from mri.training.checkpoints import Checkpoint
from mri.training.trainer import (
    HISTORY,
    Trainer,
    TrainingError,
    _average,
    _class_weights,
    _plateaus,
    derived_seed,
    to_batch,
)
from tests.conftest import blobs


@pytest.fixture
def settings(params) -> Train:
    """Three epochs: two at 32 pixels after one at 48, in fp32, with everything random switched on."""
    quick = params.train.model_dump()
    quick |= {
        "phases": [{"epochs": 1, "size": 48}, {"epochs": 2, "size": 32}],
        "batch": 8,
        "lr": 0.003,
        "ema": 0.5,
        "precision": "fp32",
        "warmup_epochs": 0.5,
    }
    quick["augment"] |= {"flip": 0.0, "mixup": 0.5}
    return Train.model_validate(quick)


def trainer(spec, settings, seed=0, n=64):
    model = models.build(spec, 4, derived_seed(seed, "weights"))
    return Trainer(model, blobs(n), blobs(16, seed=1), settings.model_copy(update={"seed": seed}))


class Killed(BaseException):
    """A stand-in for SIGKILL right after a checkpoint."""


def weights_of(model):
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


def test_training_learns_what_can_be_learned(small_spec, settings, tmp_path):
    run = trainer(small_spec, settings.model_copy(update={"phases": settings.phases * 3}), n=128)
    history = run.fit(Checkpoint({}, tmp_path))
    assert [row["epoch"] for row in history] == list(range(1, 10))
    assert list(history[0]) == HISTORY
    assert max(row["val_macro_f1"] for row in history) > 0.9


def test_the_kept_weights_are_the_average_at_the_best_epoch_of_the_last_phase(
    small_spec, settings, tmp_path, monkeypatch
):
    scores, seen = iter([0.99, 0.5, 0.9, 0.7]), []
    settings = settings.model_copy(
        update={"phases": [settings.phases[0], settings.phases[1].model_copy(update={"epochs": 3})]}
    )
    run = trainer(small_spec, settings)
    measured = run._row
    monkeypatch.setattr(run, "_row", lambda *arguments: measured(*arguments) | {"val_macro_f1": next(scores)})
    run.fit(Checkpoint({}, tmp_path), lambda row: seen.append(weights_of(run.average.module)))
    assert torch.equal(weights_of(run.model), seen[2])
    assert not torch.equal(seen[2], seen[3])


def test_the_same_seed_gives_identical_weights_and_another_seed_others(small_spec, settings, tmp_path):
    results = []
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        run = trainer(small_spec, settings, seed)
        run.fit(Checkpoint({}, tmp_path / name))
        results.append(weights_of(run.model))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_run_resumes_and_ends_with_the_same_weights(small_spec, settings, tmp_path, killed_after):
    whole = trainer(small_spec, settings)
    whole.fit(Checkpoint({}, tmp_path / "whole"))

    def kill(row, count=itertools.count(1)):  # noqa: B008
        if next(count) == killed_after:
            raise Killed

    with pytest.raises(Killed):
        trainer(small_spec, settings).fit(Checkpoint({}, tmp_path / "killed"), kill)
    resumed = trainer(small_spec, settings)
    history = resumed.fit(Checkpoint({}, tmp_path / "killed"))
    assert torch.equal(weights_of(whole.model), weights_of(resumed.model))
    assert [row["train_loss"] for row in history] == [row["train_loss"] for row in whole.history]


def test_a_loss_that_is_not_finite_stops_with_advice(small_spec, settings, tmp_path):
    wild = settings.model_copy(update={"lr": 1e30})
    with pytest.raises(TrainingError, match=r"the loss became .* in epoch 1: lower train.lr"):
        trainer(small_spec, wild).fit(Checkpoint({}, tmp_path))


def test_training_stops_when_the_score_no_longer_improves(small_spec, settings, tmp_path):
    patient = settings.model_copy(
        update={"phases": [settings.phases[-1].model_copy(update={"epochs": 9})], "lr": 1e-12, "patience": 2}
    )
    history = trainer(small_spec, patient).fit(Checkpoint({}, tmp_path))
    assert len(history) == 3  # the first is the best; two more bring nothing


def test_batches_are_resized_with_antialiasing():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    reduced = to_batch(board[None].astype(np.uint8), 16)
    assert reduced.shape == (1, 1, 16, 16)
    assert reduced[..., 2:-2, 2:-2].sub(0.5).abs().max() < 0.03  # without antialiasing it would be 0 or 1
    assert to_batch(board[None].astype(np.uint8), 64).max() == 1.0


def test_every_purpose_and_epoch_has_a_seed_of_its_own():
    seeds = {
        derived_seed(seed, purpose, epoch) for seed in (0, 1) for purpose in ("order", "weights") for epoch in range(9)
    }
    assert len(seeds) == 36


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(small_spec, settings):
    run = trainer(small_spec, settings)  # 3 epochs in all, half an epoch of warm-up

    def rate(epochs_done: float) -> float:
        run._set_lr(epochs_done)
        return run.optimiser.param_groups[0]["lr"] / settings.lr

    assert rate(0) == pytest.approx(0.1 * 1.001)
    assert rate(1.5) == pytest.approx(0.501)
    assert rate(2) == pytest.approx(0.251)
    assert rate(3) == pytest.approx(0.001)


def test_the_plateau_schedule_lowers_the_rate_after_three_epochs_without_a_better_score(small_spec, settings):
    assert [_plateaus(scores, patience=3) for scores in ([], [0.5, 0.4, 0.5], [0.5, 0.4, 0.5, 0.3])] == [0, 0, 1]
    assert _plateaus([0.5, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6], patience=3) == 2
    run = trainer(small_spec, settings.model_copy(update={"schedule": "plateau"}))
    run.history = [{"val_macro_f1": score} for score in (0.5, 0.4, 0.4, 0.4)]
    run._set_lr(4)
    assert run.optimiser.param_groups[0]["lr"] == pytest.approx(0.3 * settings.lr)


def test_classes_weigh_the_inverse_of_their_frequency_and_one_on_average():
    weights = _class_weights(np.array([0, 0, 0, 1]), 3)  # the third class doesn't occur
    assert weights[:2].tolist() == pytest.approx([4 / 6, 2])
    assert (3 * weights[0] + weights[1]) / 4 == pytest.approx(1)


def test_the_average_forgets_its_first_weights_soon_and_later_ones_slowly():
    kept, new = [torch.tensor([1.0])], [torch.tensor([0.0])]
    _average(0.98)(kept, new, torch.tensor(0))
    assert kept[0].item() == pytest.approx(0.1)  # decay 1/10 at the first step
    kept = [torch.tensor([1.0])]
    _average(0.98)(kept, new, torch.tensor(10_000))
    assert kept[0].item() == pytest.approx(0.98)
    counters = [torch.tensor([3])]  # batch norm's counters have no average
    _average(0.98)(counters, [torch.tensor([7])], torch.tensor(5))
    assert counters[0].item() == 7
