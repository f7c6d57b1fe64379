import shutil

import pytest

from mri.base.deselected import note
from tests.workspace import commit, run

NETWORKS = ("efficientnet_b0", "efficientnet_b1", "resnet50")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A committed run of three networks."""
    for name in NETWORKS:
        for kind in ("evaluate", "train"):
            (tmp_path / "metrics/details" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "metrics/details" / kind / f"{name}.json").write_text("{}")
    (tmp_path / "metrics/details/summary.json").write_text("{}")
    run(tmp_path, "git", "init", "-q", "-b", "main")
    commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_networks_whose_results_are_gone_are_named_with_the_way_back(repository):
    (repository / "metrics/details/summary.json").unlink()  # of no network
    (repository / "metrics/details/evaluate/efficientnet_b1.json").unlink()  # of a selected one: it failed
    assert note(["efficientnet_b1"]) == ""
    shutil.rmtree(repository / "metrics/details/evaluate")
    assert note(["efficientnet_b1"]) == (
        "the results of efficientnet_b0, resnet50 are gone from the working tree; back to all networks: "
        "`git restore params.yaml dvc.lock metrics plots dagshub && dvc checkout` "
        "(this experiment stays in `dvc exp show`)"
    )
    assert note(NETWORKS) == ""


def test_nothing_is_said_outside_of_git_and_in_the_temporary_copy_of_an_experiment(repository, tmp_path, monkeypatch):
    shutil.rmtree(repository / "metrics/details/evaluate")
    copy = repository / ".dvc/tmp/exps/temporary"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert note(["resnet50"]) == ""
    monkeypatch.chdir(repository)
    shutil.rmtree(repository / ".git")
    assert note(["resnet50"]) == ""
