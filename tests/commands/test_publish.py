import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from mri.base.errors import UserError
from mri.base.files import read_json, write_json
from mri.commands.compose import compose
from mri.commands.publish import fill, fill_pages, publish, publish_package
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
        "plots/summary/training.csv": "x\n",
        "plots/summary/risk_coverage.csv": "x\n",
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


def test_what_a_reader_needs_is_copied_and_replaces_the_run_before(run):
    target = publish("kaggle", run)
    (target / "stale").write_text("")
    publish("kaggle", run)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()) == [
        "metrics/data.json",
        "metrics/evaluate/b0.json",
        "metrics/summary.json",
        "model_card.md",
        "params.yaml",
        "plots/training.csv",
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
        "plots/robustness/b0.csv",
        "plots/robustness/b1.csv",
    ):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("{}")
    target = publish("kaggle", run)
    assert [path.name for path in (target / "metrics/train").iterdir()] == ["b0.json"]
    assert [path.name for path in (target / "plots/robustness").iterdir()] == ["b0.csv"]


def part(run: Path, name: str) -> str:
    """A generated part of the pages, once the run is published."""
    publish("kaggle", run)
    (run / "README.md").write_text(f"<!-- {name}: begin (x) -->\n<!-- {name}: end -->\n")
    fill_pages(run)
    return (run / "README.md").read_text()


def test_the_table_has_intervals_baselines_and_the_winner_in_bold(run):
    table = part(run, "tables")
    assert "| **b0** | 90.0 [88.0, 92.0] | 90.0 [88.0, 92.0] | 90.0 [88.0, 92.0] | 3.4 [1.2, 5.6] | 5.5 | 16 |" in table
    assert "| _majority_ | 25.0 [23.0, 27.0] | 25.0 [23.0, 27.0] | 25.0 [23.0, 27.0] |  | | |" in table


def test_missed_tumours_are_in_the_table_where_they_are_known(run):
    path = run / "metrics/details/summary.json"
    summary = read_json(path)
    summary["baselines"]["majority"]["missed_tumour_rate"] = {"value": 0.5, "low": 0.25, "high": 0.75}
    del summary["models"]["b0"]["test"]["missed_tumour_rate"]
    write_json(summary, path)
    table = part(run, "tables")
    assert "25.0 [23.0, 27.0] | 50.0 [25.0, 75.0] | | |" in table and "| 90.0 [88.0, 92.0] |  | 5.5 | 16 |" in table


def test_the_summary_names_the_weakest_class_and_the_best_trivial_classifier(run):
    path = run / "metrics/details/summary.json"
    summary = read_json(path)
    worse = {name: estimate(0.125) for name in summary["baselines"]["majority"]}
    write_json(summary | {"baselines": {"shortcut": worse} | summary["baselines"]}, path)
    text = part(run, "summary")
    assert "| kaggle (grouped) | **b0** | 90.0 [88.0, 92.0] | 90.0 [88.0, 92.0] | 3.4 [1.2, 5.6] | 5.5 |\n" in text
    assert "| | _majority_ | 25.0 [23.0, 27.0] | 25.0 [23.0, 27.0] |  | |\n" in text and "shortcut" not in text
    assert "1,234 test images in 9 groups; the winner's weakest class is glioma, of which it recognises 50.0" in text


@pytest.mark.parametrize("name", ["summary", "tables"])
def test_scores_on_contaminated_test_images_say_so(run, name):
    warning = "Of these test images 76 % have a near-duplicate and 99 % a patient or source picture in training"
    assert warning not in part(run, name)
    data = run / "metrics/details/data.json"
    data.write_text(data.read_text().replace('"near": 0.0, "patient": 0.0', '"near": 0.757, "patient": 0.993'))
    assert warning in part(run, name)


def test_only_what_stands_between_markers_changes():
    text = "before\n<!-- tables: begin (x) -->\nold\n<!-- tables: end -->\nafter\n"
    filled = fill(fill(text, {"results": {}}), {"results": {}})
    assert filled.split() == text.replace("old", "").split()


def test_the_committed_pages_show_what_is_published(root, tmp_path):
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").symlink_to(root / "results")
    for page in pages:
        shutil.copy(page, tmp_path / page.relative_to(root))
    filled = fill_pages(tmp_path)
    assert {"README.md", "results.md"} <= {page.name for page in filled}
    for page in filled:
        assert page.read_text() == (root / page.relative_to(tmp_path)).read_text(), "run `make publish`"


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


def test_a_published_package_that_is_not_there_is_not_served(root):
    command = ["make", "-o", ".venv/.ready", "serve", "MODEL=nowhere"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: results/nowhere has no package (published: " in done.stderr
