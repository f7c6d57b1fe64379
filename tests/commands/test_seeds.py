import pandas as pd
import pytest
import yaml

from mri.base.errors import UserError
from mri.base.files import read_json
from mri.commands.compose import compose
from mri.commands.seeds import collect, main, score
from mri.report.rendering import render
from tests.workspace import ROOT, commit, run

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]


def predictions(wrong: int, images: int = 80) -> pd.DataFrame:
    """One image a group; of each class, so many are called the next one."""
    rows = []
    for number in range(images):
        label = number % 4
        called = (label + 1) % 4 if number // 4 < wrong else label
        shares = {f"p_{name}": float(i == called) for i, name in enumerate(CLASSES)}
        about = {"id": f"{number:03}", "group": f"{number}", "label": CLASSES[label], "predicted": CLASSES[called]}
        rows.append(about | {"source": "here", "series": "", "split": "test"} | shares)
    return pd.DataFrame(rows)


def test_a_score_has_an_interval_over_images_and_a_deviation_over_trainings():
    scores = score([predictions(2), predictions(4), predictions(6)], CLASSES, 100, 0)
    accuracy = scores["accuracy"]
    assert accuracy["value"] == pytest.approx(0.8) and accuracy["each"] == pytest.approx([0.9, 0.8, 0.7])
    assert accuracy["deviation"] == pytest.approx(0.1) and accuracy["low"] < 0.8 < accuracy["high"]
    worst = scores["worst_group"]
    assert (worst["n"], worst["groups"]) == (20, 20) and worst["each"] == pytest.approx([0.9, 0.8, 0.7])


def test_more_trainings_are_not_more_images():
    one, four = (score([predictions(4)] * n, CLASSES, 100, 0)["macro_f1"] for n in (2, 8))
    assert one["low"] == pytest.approx(four["low"]) and one["deviation"] == four["deviation"] == 0


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Branches with a training each: seed1 and seed2 differ in the seed, longer and others in more."""
    (tmp_path / "artifacts/predictions").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("")
    run(tmp_path, "git", "init", "-q", "-b", "main")
    run(tmp_path, "dvc", "init", "-q")
    trainings = {
        "seed1": ["train.seed=1"],
        "seed2": ["train.seed=2"],
        "longer": ["train.seed=3", "train.batch=64"],
        "others": ["train.seed=4"],
    }
    for number, (name, changes) in enumerate(trainings.items()):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(compose(changes, ROOT / "conf")))
        table = predictions(2 * number, 84 if name == "others" else 80)
        table.to_csv(tmp_path / "artifacts/predictions/small.csv", index=False)
        run(tmp_path, "git", "checkout", "-q", "-b", name)
        commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_trainings_are_put_together_and_published(repository, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["seeds", "spread", "small", "seed1", "seed2"])
    main()
    assert "macro-F1 0.95" in capsys.readouterr().out
    written = read_json(repository / "results/spread/seeds.json")
    assert written["seeds"] == [1, 2] and written["scores"]["accuracy"]["each"] == [1.0, 0.9]
    page = render({"results": {"spread": {"seeds": written}}}, "published/tables.md")
    assert "| spread | small | grouped | 2 | 95.0 [" in page and "] ± 7.1 |" in page


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["seed1"], r"the seeds \[1\]; needed are two or more that differ"),
        (["seed1", "seed1"], r"the seeds \[1, 1\]; needed are two or more that differ"),
        (["seed1", "longer"], r"differ in more than train\.seed"),
        (["seed1", "others"], "tested on different images"),
        (["seed1", "nowhere"], "nowhere has no .*small.csv"),
    ],
)
def test_what_differs_in_more_than_the_seed_is_refused(repository, names, message):
    with pytest.raises(UserError, match=message):
        collect("small", names)
