"""Somebody edits conf/ and forgets that `dvc repro` reads params.yaml."""

import pytest

from stages.conf import conf
from tests.workspace import make, run

WARNING = "warning: params.yaml, which this run takes, differs from conf/ in train.lr: `make params` composes it anew\n"


@pytest.fixture
def edited(root, params, monkeypatch):
    """Parameters with another learning rate than conf/ gives."""
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return params.model_copy(update={"train": params.train.model_copy(update={"lr": 0.5})})


def test_a_parameter_that_conf_gives_another_value_is_named(edited, capsys):
    conf(edited)
    assert capsys.readouterr().err == WARNING


def test_nothing_is_said_of_parameters_that_conf_composes_to_or_of_an_experiment_s(edited, params, monkeypatch, capsys):
    conf(params)
    monkeypatch.setenv("DVC_EXP_NAME", "wild-idea")
    conf(edited)
    assert capsys.readouterr().err == ""


def test_many_differences_are_counted(params, edited, capsys):
    conf(
        edited.model_copy(update={"seed": 1, "size": 128, "select": params.select.model_copy(update={"rule": "best"})})
    )
    assert "differs from conf/ in seed, size, train.lr and 1 more:" in capsys.readouterr().err


@pytest.mark.slow
def test_dvc_repro_tells_who_edited_conf_and_an_experiment_that_overrides_it_is_not_told(tmp_path):
    folder = make(tmp_path, [])
    run(folder, "dvc", "init", "-q", "-f")
    (folder / "dvc.yaml").write_text("stages:\n  conf: {cmd: python -m stages.conf, deps: [conf, stages/conf.py]}\n")
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n[hydra]\n    enabled = true\n")
    assert "warning" not in run(folder, "dvc", "repro").stderr
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "locked")
    quick = folder / "conf/train/quick.yaml"
    quick.write_text(quick.read_text().replace("lr: 0.001", "lr: 0.5"))
    assert WARNING in run(folder, "dvc", "repro").stderr
    run(folder, "python", "-m", "mri.commands.compose")
    quick.write_text(quick.read_text() + "# a comment\n")
    assert "warning" not in run(folder, "dvc", "repro").stderr
    quick.write_text(quick.read_text() + "# another\n")
    done = run(folder, "dvc", "exp", "run", "-S", "train.lr=0.25")
    assert "python -m stages.conf" in done.stdout and "warning" not in done.stderr
