import numpy as np
import pandas as pd
import pytest
import yaml

from mri.commands.ablation import changes, main, table
from tests.workspace import commit, run


def test_changes_name_every_parameter_that_differs_by_its_path():
    base = {"seed": 0, "train": {"lr": 0.1, "phases": [{"size": 64}], "ema": 0.9}, "teacher": {}}
    other = {"seed": 0, "train": {"lr": 0.1, "phases": [{"size": 96}]}, "teacher": {"b0": {"builder": "b"}}, "new": "x"}
    assert changes(base, base) == []
    assert changes(base, other) == ["train.phases=[{size: 96}]", "train.ema is gone", "teacher.b0.builder=b", "new=x"]


CLASSES = ["glioma", "pituitary"]


def settings(**others):
    return {"seed": 0, "data": {"classes": CLASSES}, "evaluate": {"resamples": 200}, **others}


def predictions(wrong=(), ids=range(8)):
    """Return predictions for eight images of two alternating classes, each its own group; those in `wrong` err."""
    labels = [CLASSES[i % 2] for i in range(8)]
    called = [CLASSES[(i + (i in wrong)) % 2] for i in range(8)]
    names = [str(i) for i in ids]
    return pd.DataFrame({"id": names, "group": names, "label": labels, "predicted": called, "split": "val"})


def test_the_table_compares_with_the_first_experiment_on_the_same_images():
    experiments = {"base": (settings(a=1), predictions({0, 1})), "second": (settings(a=2), predictions())}
    rows = table(experiments)
    assert rows["experiment"].tolist() == ["base", "second"]
    assert rows["changes"].tolist() == ["", "a=2"]
    assert rows["val_macro_f1"].tolist() == [0.75, 1.0] and rows["val_balanced_accuracy"].tolist() == [0.75, 1.0]
    assert np.isnan(rows["lead"][0]) and rows["lead"][1] == pytest.approx(0.25)
    assert rows["lead_low"][1] == 0, "two of eight images may be missing from a resample"
    # A second network that errs on the same images is known to be no better, however few images there are.
    same = table({"base": (settings(), predictions({0, 1})), "same": (settings(a=2), predictions({0, 1}))})
    assert same["lead_low"][1] == same["lead_high"][1] == 0 < same["val_macro_f1_high"][1] - same["val_macro_f1_low"][1]


def test_experiments_validated_on_different_images_are_not_subtracted():
    rows = table({"base": (settings(), predictions()), "moved": (settings(seed=1), predictions(ids=range(1, 9)))})
    assert "lead" not in rows or rows["lead"].isna().all()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two branches, `base` and `longer`, each with the parameters and predictions of a run."""
    run(tmp_path, "git", "init", "-q", "-b", "main")
    run(tmp_path, "dvc", "init", "-q")
    (tmp_path / "artifacts/predictions").mkdir(parents=True)
    for number, name in enumerate(("base", "longer")):
        tests = predictions(range(8)).assign(split="test")
        both = pd.concat([predictions({0, 1} if number == 0 else ()), tests])
        both.to_csv(tmp_path / "artifacts/predictions/small.csv", index=False)
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings(train={"epochs": 5 + number})))
        run(tmp_path, "git", "checkout", "-q", "-b", name)
        commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_experiments_are_read_from_git_and_published(repository, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ablation", "tried", "small", "base", "longer"])
    main()
    written = pd.read_csv(repository / "results/tried/ablation.csv", keep_default_na=False)
    assert written["changes"].tolist() == ["", "train.epochs=6"]
    assert written["val_macro_f1"].tolist() == [0.75, 1.0]
    published = yaml.safe_load((repository / "results/tried/params.yaml").read_text())
    assert published == settings(train={"epochs": 5})


def test_an_experiment_that_is_not_there_is_named(repository, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ablation", "tried", "small", "base", "nowhere"])
    with pytest.raises(Exception, match=r"nowhere has no .*small\.csv"):
        main()
    assert not (repository / "results").exists()
