import numpy as np
import pytest
import torch

from mri.base.params import Train
from mri.data.dataset import Part
from mri.networks import models
from mri.training.checkpoints import Checkpoint
from mri.training.distillation import TEMPERATURE, Teacher, distillation_loss, load
from mri.training.trainer import Trainer
from tests.conftest import blobs


class Constant(torch.nn.Module):
    """A network with one answer."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits, dtype=torch.float32)

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_a_teacher_says_the_mean_of_its_networks_softened_probabilities():
    teacher = Teacher([Constant([2.0 * np.log(3.0), 0.0]), Constant([0.0, 0.0])])
    assert TEMPERATURE == 2
    probabilities = teacher(torch.zeros(3, 1, 8, 8))
    assert torch.allclose(probabilities, torch.tensor([[0.625, 0.375]]).expand(3, 2))


def test_the_loss_is_least_for_a_student_that_says_the_same():
    logits = torch.tensor([[1.0, -2.0, 0.5]], requires_grad=True)
    distillation_loss(logits, (logits.detach() / TEMPERATURE).softmax(1)).backward()
    assert logits.grad.abs().max() < 1e-6


def test_the_loss_has_gradients_as_large_as_the_labels_would_give():
    """For small logits the gradient is (difference of logits) / C, whatever the temperature (Hinton et al., eq. 4)."""
    logits = torch.tensor([[0.01, 0.0]], requires_grad=True)
    distillation_loss(logits, torch.tensor([[0.5, 0.5]])).backward()
    assert logits.grad[0, 0].item() == pytest.approx(0.005 / 2, rel=1e-3)


def test_a_teacher_that_was_loaded_says_what_its_network_says(small_spec, tmp_path):
    torch.manual_seed(0)
    network = models.build(small_spec, 4, seed=0).train()
    images = torch.rand(8, 1, 32, 32)
    network(images)  # batch norm gets statistics that are not its first ones
    models.save(network.eval(), list("abcd"), 32, tmp_path / "one")
    with torch.no_grad():
        expected = (network(images) / TEMPERATURE).softmax(1)
    probabilities = load(tmp_path)(images)
    assert torch.allclose(probabilities, expected, atol=1e-5) and not torch.allclose(
        probabilities, probabilities.mean(0).expand(8, 4), atol=1e-5
    )


def test_a_folder_without_models_teaches_nothing(tmp_path):
    assert load(tmp_path) is None


def test_a_student_learns_what_its_teacher_says_rather_than_its_labels(small_spec, params, tmp_path):
    """The teacher was trained on right labels, the student sees wrong ones."""
    settings = Train.model_validate(
        params.train.model_dump()
        | {"phases": [{"epochs": 6, "size": 32}], "batch": 8, "lr": 0.003, "ema": 0.5, "precision": "fp32"}
        | {"distillation": {"share": 1.0, "mixup": 0.5}, "augment": params.train.augment.model_dump() | {"flip": 0.0}}
    )
    right, val = blobs(128), blobs(16, seed=1)
    teaching = Trainer(models.build(small_spec, 4, 0), right, val, settings)
    teaching.fit(Checkpoint({}, tmp_path / "teacher"))
    models.save(teaching.model, list("abcd"), 32, tmp_path / "models/teaching")
    wrong = Part(right.index, right.pixels, (right.labels + 1) % 4)
    student = Trainer(models.build(small_spec, 4, 1), wrong, val, settings, load(tmp_path / "models"))
    history = student.fit(Checkpoint({}, tmp_path / "student"))
    assert max(row["val_accuracy"] for row in history) > 0.9


def test_students_see_mixtures_and_networks_that_learn_alone_do_not(small_spec, params):
    assert params.train.augment.mixup == 0 and params.train.distillation.mixup == 1
    arguments = (models.build(small_spec, 4, 0), blobs(8), blobs(8), params.train)
    (targets,), (mixed,) = (
        [batch[1] for batch in Trainer(*arguments, teacher)._batches(1, params.train.phases[0])]
        for teacher in (None, Teacher([Constant([0.0] * 4)]))
    )
    assert set(targets.unique().tolist()) == {0.0, 1.0}
    assert not set(mixed.unique().tolist()) <= {0.0, 1.0} and torch.allclose(mixed.sum(1), torch.ones(8))
