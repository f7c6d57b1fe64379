import pandas as pd
import pytest
import yaml

from mri.base.errors import UserError
from mri.base.files import read_json
from mri.commands.compose import compose
from mri.commands.folds import collect, main, pool
from mri.report.rendering import render
from tests.workspace import ROOT, commit, run

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]


def predictions(ids, right=True, group=None):
    """Return one prediction of probability 1 per image; classes alternate with the image's position."""
    rows = []
    for number, id in enumerate(ids):
        label = number % 4
        called = label if right else (label + 1) % 4
        shares = {f"p_{name}": float(i == called) for i, name in enumerate(CLASSES)}
        rows.append({"id": id, "group": group or id, "label": CLASSES[label], "split": "test", **shares})
    return pd.DataFrame(rows)


def test_pooled_scores_count_every_image_of_every_fold():
    scores = pool([predictions("abcd"), predictions("efgh", right=False), predictions("ijkl")], CLASSES, 100, 0)
    assert scores["n"] == 12 and scores["accuracy"]["value"] == pytest.approx(8 / 12)
    assert scores["confusion"][0] == [2, 1, 0, 0]


def test_an_image_or_group_in_two_folds_is_refused():
    with pytest.raises(UserError, match="id 'a' is tested in more than one fold"):
        pool([predictions("abcd"), predictions("a")], CLASSES, 100, 0)
    with pytest.raises(UserError, match="group 'x' is tested in more than one fold"):
        pool([predictions("ab", group="x"), predictions("cd", group="x")], CLASSES, 100, 0)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Branches with the parameters and predictions of a fold each: fold1 to fold3 are of one split, `seed` and `val`
    have another seed or share of validation images."""
    (tmp_path / "artifacts/predictions").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("")
    run(tmp_path, "git", "init", "-q", "-b", "main")
    run(tmp_path, "dvc", "init", "-q")
    others = {"fold1": [], "fold2": [], "fold3": [], "seed": ["seed=1"], "val": ["split.val=0.1"]}
    for number, (name, changes) in enumerate(others.items()):
        fold = min(number + 1, 3)
        parameters = compose(["split.folds=3", f"split.fold={fold}", *changes], ROOT / "conf")
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
        test = predictions([f"{name}-{i}" for i in range(8)], right=number != 1)
        val = test.assign(split="val", id="v" + test["id"])
        pd.concat([test, val]).to_csv(tmp_path / "artifacts/predictions/small.csv", index=False)
        run(tmp_path, "git", "checkout", "-q", "-b", name)
        commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folds_are_pooled_from_experiments_and_published(repository, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["folds", "three", "small", "fold1", "fold2", "fold3"])
    main()
    assert "balanced accuracy 0.667" in capsys.readouterr().out
    written = read_json(repository / "results/three/folds.json")
    assert written["pooled"]["n"] == 24 and written["balanced_accuracy_per_fold"] == [1.0, 0.0, 1.0]
    assert "| three | small | grouped | 3 | 24 | 66.7 [" in render(
        {"results": {"three": {"folds": written}}}, "published/tables.md"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["fold1", "fold2"], r"folds \[1, 2\]; needed is each of 1 to 3 once"),
        (["fold1", "fold2", "seed"], r"differ in more than split\.fold"),
        (["fold1", "fold2", "val"], r"differ in more than split\.fold"),
        (["fold1", "nowhere"], "nowhere has no .*small.csv"),
    ],
)
def test_what_is_no_cross_validation_is_refused(repository, names, message):
    with pytest.raises(UserError, match=message):
        collect("small", names)
