import pytest

from mri.base.errors import UserError
from mri.base.paths import TEACHER
from mri.data import dataset
from mri.networks import models
from mri.training import run
from mri.training.run import identity, load_teacher


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "version", lambda folder: "0123456789ab")
    monkeypatch.setattr(run, "code_of_stage", lambda stage: {})


def test_only_a_taught_networks_training_is_named_by_the_weights_it_learns_from(params, small_spec):
    """Else a second teacher's checkpoint would depend on whether the first one's weights lie there again yet."""

    def named(taught: bool) -> dict:
        return identity(params, "teacher", small_spec, "random", taught)

    alone, before = named(False), named(True)
    (TEACHER / "other").mkdir(parents=True)
    (TEACHER / "other" / models.WEIGHTS_FILE).write_bytes(b"weights")
    assert named(False) == alone
    assert named(True) != before


def test_a_seed_of_training_makes_another_training_and_the_split_s_seed_does_not(params, small_spec):
    def named(params) -> dict:
        return identity(params, "train", small_spec, "random", False)

    other = params.train.model_copy(update={"seed": params.train.seed + 1})
    assert named(params.model_copy(update={"seed": params.seed + 1})) == named(params)
    assert named(params.model_copy(update={"train": other})) != named(params)


def test_another_normalisation_makes_another_training(params, small_spec):
    darker = small_spec.model_copy(update={"mean": (0.0, 0.0, 0.0)})
    assert identity(params, "train", darker, "", False) != identity(params, "train", small_spec, "", False)


def test_a_teacher_that_is_missing_is_asked_for_and_none_is_needed_where_none_is_named(params, small_spec):
    assert load_teacher(params) is None
    teacher = params.teacher.model_copy(update={"architectures": {"b0": small_spec}})
    with pytest.raises(UserError, match="artifacts/teacher has no network to learn from: run `dvc repro teacher`"):
        load_teacher(params.model_copy(update={"teacher": teacher}))
