import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import yaml

from mri.base.errors import UserError
from mri.commands.compose import compose
from mri.commands.publish import BEGIN, END, headlines, publish, publish_package, tables, update_readme
from mri.export import compact
from mri.report import model_card
from tests import packages
from tests.conftest import blobs


def estimate(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


MISSED = {"value": 0.034, "low": 0.012, "high": 0.056}


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """A folder in which a pipeline seems to have run, on one's own scans; too little was measured for a model card."""
    monkeypatch.setattr(model_card, "markdown", lambda params, content: f"{content['summary']['dataset']}\n")
    scores = {name: estimate(0.9) for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    model = {"test": scores | {"missed_tumour_rate": MISSED}, "latency_ms_p50": 5.55, "size_mb": 16.2}
    baseline = {name: estimate(0.25) for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    summary = {
        "dataset": "local",
        "protocol": "grouped",
        "winner": "b0",
        "models": {"b0": model},
        "baselines": {"majority": baseline},
    }
    for name, text in {
        "params.yaml": yaml.safe_dump(compose(["data=local"], root / "conf")),
        "dvc.lock": "",
        "plots/a.csv": "x\n",
        "artifacts/splits/index.csv": "id,path,label,split,clean,group\na,a.png,glioma,test,True,g\n",
        "plots/sheets/a.png": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    recall = {"recall": 0.5, "support": 4}
    test = scores | {"n": 1234, "groups": 9, "per_class": {"glioma": recall}}
    test["intervals"] = {"per_class": {"glioma": {"recall": [0.25, 0.75]}}}
    (tmp_path / "metrics/details/evaluate").mkdir(parents=True)
    (tmp_path / "metrics/details/evaluate/b0.json").write_text(json.dumps({"test": test}))
    (tmp_path / "metrics/details/summary.json").write_text(json.dumps(summary))
    leakage = {"split": {"n": 1234, "exact": 0.0, "near": 0.0, "patient": 0.0}}
    (tmp_path / "metrics/details/data.json").write_text(json.dumps({"leakage": leakage}))
    return tmp_path


def test_a_run_is_copied_whole_and_replaces_the_one_before(run):
    target = publish("kaggle", run)
    (target / "stale").write_text("")
    publish("kaggle", run)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()) == [
        "dvc.lock",
        "metrics/data.json",
        "metrics/evaluate/b0.json",
        "metrics/summary.json",
        "model_card.md",
        "params.yaml",
        "plots/a.csv",
        "split.csv",
    ]
    assert (target / "split.csv").read_text() == "id,label,split,group\na,glioma,test,g\n"
    assert (target / "model_card.md").read_text() == "kaggle\n"


@pytest.mark.parametrize(("name", "source"), [("kaggle", "kaggle"), ("kaggle-official", "kaggle"), ("mine", "local")])
def test_the_model_card_has_the_published_name(root, run, monkeypatch, name, source):
    monkeypatch.undo()
    shutil.rmtree(run / "metrics")
    shutil.copytree(root / "metrics", run / "metrics")
    card = (publish(name, run) / "model_card.md").read_text()
    assert re.match(rf"# Model card: \w+ for brain-tumour MRI \({name}\)\n", card)
    assert f"\n- Source: {source} (" in card
    assert json.loads((run / f"results/{name}/metrics/summary.json").read_text())["dataset"] == "phantom"


def test_the_committed_model_cards_have_the_names_that_they_are_published_under(root):
    for summary in (root / "results").glob("*/metrics/summary.json"):
        run = summary.parents[1]
        assert f"({run.name})\n" in (run / "model_card.md").read_text()


def test_what_another_run_left_of_other_networks_is_not_published_as_this_runs(run):
    for name in (
        "metrics/details/train/b0.json",
        "metrics/details/train/b1.json",
        "plots/history/b0.csv",
        "plots/history/b1.csv",
    ):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("{}")
    target = publish("kaggle", run)
    assert [path.name for path in (target / "metrics/train").iterdir()] == ["b0.json"]
    assert [path.name for path in (target / "plots/history").iterdir()] == ["b0.csv"]


def test_pictures_of_synthetic_images_are_published_and_those_of_scans_are_not(run):
    assert not (publish("kaggle", run) / "plots/sheets").exists()
    summary = run / "metrics/details/summary.json"
    summary.write_text(summary.read_text().replace('"local"', '"phantom"'))
    assert (publish("phantom", run) / "plots/sheets/a.png").exists()


def test_the_table_has_intervals_baselines_and_the_winner_in_bold(run):
    publish("kaggle", run)
    table = tables(run / "results")
    assert "| **b0** | 90.0 [88.0, 92.0] | 90.0 [88.0, 92.0] | 90.0 [88.0, 92.0] | 3.4 [1.2, 5.6] | 5.5 | 16 |" in table
    assert "| _majority_ | 25.0 [23.0, 27.0] | 25.0 [23.0, 27.0] | 25.0 [23.0, 27.0] |  | | |" in table


def test_the_table_has_the_missed_tumours_of_baselines_where_they_are_known(run):
    publish("kaggle", run)
    path = run / "results/kaggle/metrics/summary.json"
    summary = json.loads(path.read_text())
    summary["baselines"]["majority"]["missed_tumour_rate"] = {"value": 0.5, "low": 0.25, "high": 0.75}
    path.write_text(json.dumps(summary))
    assert "25.0 [23.0, 27.0] | 50.0 [25.0, 75.0] | | |" in tables(run / "results")


def test_a_dataset_without_a_tumour_free_class_has_no_missed_tumours_to_tell_of(run):
    publish("figshare", run)
    summary = run / "results/figshare/metrics/summary.json"
    summary.write_text(summary.read_text().replace("missed_tumour_rate", "unknown"))
    assert "| 90.0 [88.0, 92.0] |  | 5.5 | 16 |" in tables(run / "results")


def test_readme_gets_the_table_between_its_markers_and_nothing_else_changes(run):
    publish("kaggle", run)
    readme = run / "README.md"
    parts = [f"{BEGIN.format(name)}\nold\n{END.format(name)}" for name in ("headline", "results")]
    readme.write_text(f"before\n{parts[0]}\nbetween\n{parts[1]}\nafter\n")
    update_readme(readme, run / "results")
    update_readme(readme, run / "results")
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "\nbetween\n" in text
    assert "old" not in text and text.count("**b0**") == text.count("**kaggle**: b0 reaches") == 1


def test_the_headline_tells_the_weakest_class_and_what_is_trivial(run):
    publish("kaggle", run)
    assert headlines(run / "results") == (
        "**kaggle**: b0 reaches a macro-F1 of 90.0 [88.0, 92.0] % on 1,234 test images (9 groups, grouped split). Its "
        "weakest class is glioma: it recognises 50.0 [25.0, 75.0] % of 4. The best trivial classifier (majority) "
        "reaches 25.0 [23.0, 27.0] %."
    )


def test_scores_on_contaminated_test_images_say_so_wherever_they_stand(run):
    publish("kaggle", run)
    said = "Of these test images 76 % have a near-duplicate and 99 % a patient or source picture in training"
    assert said not in tables(run / "results") + headlines(run / "results")
    data = run / "metrics/details/data.json"
    data.write_text(data.read_text().replace('"near": 0.0, "patient": 0.0', '"near": 0.757, "patient": 0.993'))
    publish("kaggle", run)
    assert said in tables(run / "results") and said in headlines(run / "results")


def test_the_committed_readme_shows_what_is_published(root, tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text((root / "README.md").read_text())
    update_readme(copy, root / "results")
    assert copy.read_text() == (root / "README.md").read_text(), "run `make publish` again"


@pytest.fixture
def packaged(run):
    """The run with packaged networks, the first the winner, and one validation image."""
    packages.package(run / "artifacts/service")
    header = "id,path,label,split,clean,group,row,mask_row"
    (run / "artifacts/splits/index.csv").write_text(f"{header}\na,a.png,glioma,val,True,g,0,-1\n")
    np.save(run / "artifacts/splits/images.npy", blobs(1, packages.SIZE).pixels)
    file = run / "metrics/details/summary.json"
    rows = {name: {"among_the_best": True, "size_mb": 44.0} for name in ("winner", "other")}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"decided_by": rows}))
    return run


def test_the_winner_is_published_as_a_package_where_it_is_small_enough(packaged, monkeypatch):
    monkeypatch.setattr(compact, "LIMIT_MB", 30.0)
    target = publish("kaggle", packaged)
    assert publish_package(target, packaged) == "winner"
    about = json.loads((target / "package/service.json").read_text())
    assert (about["models"], about["dataset"]) == (["winner"], "kaggle")


def test_a_good_network_that_is_small_enough_stands_in_for_a_winner_that_is_not(packaged, monkeypatch):
    def only_other(package, target, name, pixels):
        if name == "winner":
            raise UserError("too large")
        return written(package, target, name, pixels)

    written = compact.write
    monkeypatch.setattr(compact, "LIMIT_MB", 30.0)
    monkeypatch.setattr(compact, "write", only_other)
    target = publish("kaggle", packaged)
    assert publish_package(target, packaged) == "other"
    about = json.loads((target / "package/service.json").read_text())
    assert about["winner"] == "other" and list(about["test"]) == ["other"]


def test_networks_that_are_all_too_large_are_named_in_one_line(packaged):
    target = publish("kaggle", packaged)
    with pytest.raises(UserError, match=r"^the package of winner has .* published; the package of other has [^\n]*$"):
        publish_package(target, packaged)
    assert not (target / "package").exists() and (target / "metrics/summary.json").exists()


@pytest.mark.parametrize("name", ["", "../x", "Kaggle", "a b"])
def test_a_name_that_is_no_name_is_refused(run, name):
    with pytest.raises(UserError, match="can't name a published run"):
        publish(name, run)


def test_an_unfinished_run_is_refused(run):
    (run / "metrics/details/summary.json").unlink()
    with pytest.raises(UserError, match=r"metrics/details/summary.json does not exist: run `dvc repro` first"):
        publish("kaggle", run)


def test_a_readme_without_markers_is_refused(run):
    (run / "README.md").write_text("nothing")
    with pytest.raises(UserError, match="has lost the lines"):
        update_readme(run / "README.md", run / "results")


def test_a_published_package_that_is_not_there_is_not_served(root):
    command = ["make", "-o", ".venv/.ready", "serve", "MODEL=nowhere"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: results/nowhere has no package (published: " in done.stderr
