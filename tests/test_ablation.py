import json

import pandas as pd
import pytest
import yaml

from mri.ablation import changes, main, table
from tests.workspace import commit, run


def test_changes_name_every_parameter_that_differs_by_its_path():
    base = {"seed": 0, "train": {"lr": 0.1, "phases": [{"size": 64}], "ema": 0.9}, "teacher": {}}
    other = {"seed": 0, "train": {"lr": 0.1, "phases": [{"size": 96}]}, "teacher": {"b0": {"builder": "b"}}, "new": "x"}
    assert changes(base, base) == []
    assert changes(base, other) == ["train.phases=[{size: 96}]", "train.ema is gone", "teacher.b0.builder=b", "new=x"]


def scores(value):
    interval = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {"macro_f1": interval, "balanced_accuracy": interval, "seconds": 60}


def test_the_table_compares_with_the_first_experiment_and_keeps_their_order():
    found = {"base": ({"a": 1}, scores(0.5)), "second": ({"a": 2}, scores(0.75))}
    rows = table(found)
    assert rows["experiment"].tolist() == ["base", "second"]
    assert rows["changes"].tolist() == ["", "a=2"]
    assert rows["val_macro_f1"].tolist() == [0.5, 0.75]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two branches, `base` and `longer`, each with the parameters and scores of a run."""
    run(tmp_path, "git", "init", "-q", "-b", "main")
    run(tmp_path, "dvc", "init", "-q")
    for number, name in enumerate(("base", "longer")):
        for folder, content in (("evaluate", {"val": scores(0.5 + number / 4)}), ("train", {"seconds": 60})):
            path = tmp_path / f"metrics/{folder}/small.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"train": {"epochs": 5 + number}}))
        run(tmp_path, "git", "checkout", "-q", "-b", name)
        commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_experiments_are_read_from_git_and_published(repository, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ablation", "tried", "small", "base", "longer"])
    main()
    written = pd.read_csv(repository / "results/tried/ablation.csv", keep_default_na=False)
    assert written["changes"].tolist() == ["", "train.epochs=6"]
    assert written["val_macro_f1"].tolist() == [0.5, 0.75]
    assert yaml.safe_load((repository / "results/tried/params.yaml").read_text()) == {"train": {"epochs": 5}}


def test_an_experiment_that_is_not_there_is_named(repository, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ablation", "tried", "small", "base", "nowhere"])
    with pytest.raises(Exception, match=r"nowhere has no .*small\.json"):
        main()
    assert not (repository / "results").exists()
