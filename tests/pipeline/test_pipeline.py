"""The whole pipeline at thumbnail size, in a copy of the repository, through the commands that users type."""

import io
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import numpy as np
import pytest
import requests
from PIL import Image

from mri.base.files import read_json
from mri.data import dataset
from mri.evaluation.scores import missed_tumours
from mri.tracking.run import digest
from tests.commands.test_notebooks import described, saved
from tests.workspace import THUMBNAIL, TWO_ARCHITECTURES, commit, environment, make, run

pytestmark = pytest.mark.end_to_end
ARCHITECTURES = ["resnet50", "efficientnet_b0"]
CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A copy of the repository in which `make repro` ran once, committed."""
    folder = make(tmp_path_factory.mktemp("copy"), THUMBNAIL + TWO_ARCHITECTURES)
    run(folder, "dvc", "repro")
    run(folder, "python", "-m", "mri.tracking.sync")
    commit(folder)
    return folder


def is_share(score):
    return score["low"] >= 0 and score["high"] <= 1 and "value" in score


def test_a_second_repro_does_nothing(workspace):
    assert "Data and pipelines are up to date" in run(workspace, "dvc", "repro").stdout
    assert run(workspace, "git", "status", "--porcelain").stdout == ""


def test_summary_names_the_winner_and_holds_the_table(workspace):
    summary = read_json(workspace / "metrics/details/summary.json")
    assert summary["dataset"] == "phantom" and summary["rule"] == "fastest_of_the_best"
    assert summary["winner"] in ARCHITECTURES
    assert list(summary["models"]) == ARCHITECTURES
    for name, row in summary["models"].items():
        evaluated = read_json(workspace / f"metrics/details/evaluate/{name}.json")
        for part in ("val", "test"):
            scores = {score: evaluated[part][score] for score in ("accuracy", "balanced_accuracy", "macro_f1")}
            assert row[part] == scores | missed_tumours(evaluated[part])
        assert all(row[name] > 0 for name in ("latency_ms_p50", "size_mb", "gmac", "params"))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_metrics_of_each_architecture_are_complete(workspace, arch):
    scores = read_json(workspace / f"metrics/details/evaluate/{arch}.json")
    for part in ("val", "test"):
        counts = np.array(scores[part]["confusion"])
        assert scores[part]["accuracy"]["value"] == pytest.approx(counts.trace() / counts.sum(), rel=1e-5)
        recalls = counts.diagonal() / counts.sum(1)
        assert scores[part]["balanced_accuracy"]["value"] == pytest.approx(recalls.mean(), rel=1e-5)
        assert all(is_share(scores[part][name]) for name in ("accuracy", "balanced_accuracy", "macro_f1"))
        assert set(scores[part]["per_class"]["glioma"]) == {"precision", "recall", "f1", "auc", "support"}
        assert set(scores[part]) >= {"n", "missed_tumour_rate", "nll", "brier", "ece", "confusion"}
        assert np.sum(scores[part]["confusion"]) == scores[part]["n"]
    costs = read_json(workspace / f"metrics/details/benchmark/{arch}.json")
    assert costs["hardware"]["cores"] >= 1 and costs["hardware"]["libraries"]["torch"]
    for runtime in costs["runtimes"].values():
        expected = {"latency_ms_p50", "latency_ms_p95", "throughput_img_s", "peak_rss_mb", "size_mb"}
        assert set(runtime) >= expected and all(runtime[name] > 0 for name in expected)
    explained = read_json(workspace / f"metrics/details/explain/{arch}.json")
    for method in explained["methods"].values():
        assert all(is_share(method[score]) and method[score]["chance"] > 0 for score in ("pointing_game", "rma"))


def test_data_metrics_count_every_image_once(workspace):
    metrics = read_json(workspace / "metrics/details/data.json")
    images = dataset.read(workspace / "artifacts/splits", CLASSES)
    for name in CLASSES:
        for split, count in metrics["counts"][name].items():
            of_class = images.index[images.index["label"] == name]
            assert count == (of_class["split"] == ("" if split == "unused" else split)).sum()
    assert {"majority", "nearest_neighbour", "shortcut"} <= set(metrics["baselines"]["grouped"])
    assert {"duplicates", "leakage"} <= set(metrics)


def test_no_patient_is_in_two_parts(workspace):
    index = dataset.read(workspace / "artifacts/splits", CLASSES).index
    assert (index[index["split"] != ""].groupby("patient")["split"].nunique() == 1).all()


def test_a_pipeline_run_is_tracked_with_a_run_per_network_and_the_winner_is_registered(workspace):
    client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("brain-tumour-mri").experiment_id])
    (parent,) = [run for run in runs if run.data.tags["kind"] == "pipeline"]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert sorted(children) == sorted(ARCHITECTURES)
    for child in children.values():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id and child.info.status == "FINISHED"
        assert child.data.params["train.batch"] == "8"
        assert {"epoch/val_macro_f1", "macro_f1", "answered", "latency_ms"} <= set(child.data.metrics)
        assert child.data.tags["git_commit"] == commit_before_the_run(workspace)
    assert {"report", "plots", "dvc.lock"} <= {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert parent.data.tags["dvc_lock"] == digest(workspace / "dvc.lock")
    winner = read_json(workspace / "metrics/details/summary.json")["winner"]
    champion = client.get_model_version_by_alias("brain-tumour-mri", "champion")
    assert champion.run_id == children[winner].info.run_id


def commit_before_the_run(workspace):
    return run(workspace, "git", "rev-list", "HEAD").stdout.split()[-1]


def test_dagshub_finds_the_numbers_in_its_own_form(workspace):
    lines = (workspace / "dagshub/metrics.csv").read_text().splitlines()
    assert lines[0] == "Name,Value,Timestamp,Step"
    score = read_json(workspace / "metrics/details/summary.json")["models"]["resnet50"]["test"]["macro_f1"]["value"]
    assert any(line.startswith(f'"resnet50/macro_f1",{score},') for line in lines)
    assert any(line.startswith('"resnet50/epoch/val_macro_f1",') for line in lines)
    assert "train.batch: 8" in (workspace / "dagshub/params.yml").read_text()


def test_commands_that_show_results_work(workspace):
    shown = json.loads(run(workspace, "dvc", "metrics", "show", "--json").stdout)
    files = [f"metrics/scores/{name}.json" for name in (*ARCHITECTURES, "best_trivial", "winner")]
    assert sorted(shown[""]["data"]) == sorted(files)
    assert "train@resnet50" in run(workspace, "dvc", "dag", "--dot").stdout
    assert run(workspace, "dvc", "metrics", "diff").returncode == 0
    plots = run(workspace, "dvc", "plots", "show", "--out", "dvc_plots").stdout
    page = (workspace / "dvc_plots/index.html").read_text()
    assert "index.html" in plots and all(name in page for name in ("Validation macro-F1", "Confusion", "latency"))
    assert "resnet50.jpg" in "".join(path.name for path in (workspace / "dvc_plots").rglob("*.jpg"))


@pytest.mark.slow
def test_the_notebooks_on_training_and_explanations_become_pages(workspace):
    page = saved(workspace, "training")
    assert described(page).count("ROC curves") == described(page).count("Confusion matrices") == len(ARCHITECTURES)
    assert {"Training loss", "Validation macro-F1", "Reliability", "Score against latency"} <= set(described(page))
    page = saved(workspace, "explainable")
    assert described(page).count("Network by network") == len(ARCHITECTURES)
    assert described(page).count("Method by method") == 3
    assert all(name in page for name in ("guided gradcam", "efficientnet_b0", "agreement", "survives randomisation"))


def test_the_report_and_the_model_card_are_of_this_run(workspace):
    winner = read_json(workspace / "metrics/details/summary.json")["winner"]
    page = (workspace / "artifacts/report/report.html").read_text()
    assert all(f'id="{name}"' in page for name in ("result", "choice", "confidence", "drift", "explanations", "costs"))
    assert "Look for yourself" in page and f"<dd>{winner.replace('_', '_<wbr>')}<small>" in page
    card = (workspace / "artifacts/service/model_card.md").read_text()
    assert card.startswith(f"# Model card: {winner} for brain-tumour MRI (phantom)")
    for name in ("model_card.md", "model_card.html"):
        copies = [(workspace / folder / name).read_text() for folder in ("artifacts/service", "artifacts/report")]
        assert copies[0] == copies[1]


@contextmanager
def served(folder) -> Iterator[str]:
    """Run `bentoml serve` in the copy, without arguments except a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["bentoml", "serve", "--port", str(port), "--host", "127.0.0.1"]
    log = (folder / "serve.log").open("w")
    process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            if process.poll() is not None:
                raise AssertionError((folder / "serve.log").read_text())
            try:
                if requests.get(f"{address}/livez", timeout=1).ok:
                    break
            except requests.RequestException:  # not up yet
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        (folder / "serve.log").unlink()


def test_the_service_answers_what_evaluation_computed(workspace):
    import pandas as pd

    summary = read_json(workspace / "metrics/details/summary.json")
    with served(workspace) as address:
        for name in ARCHITECTURES:
            predictions = pd.read_csv(workspace / f"artifacts/predictions/{name}.csv", dtype={"id": str})
            for _, image in predictions[predictions["split"] == "test"].groupby("label").head(2).iterrows():
                with (workspace / "artifacts/dataset" / image["path"]).open("rb") as file:
                    fields = {} if name == summary["winner"] else {"model": name}
                    files = {"image": ("scan.png", file)}
                    answer = requests.post(f"{address}/predict", data=fields, files=files, timeout=30)
                assert answer.status_code == 200, answer.text
                body = answer.json()
                assert body["model"] == name and body["label"] == image["predicted"]
                assert body["dataset"] == "phantom" and body["data_version"] == summary["data_version"]
                assert [body["probabilities"][label] for label in CLASSES] == pytest.approx(
                    [image[f"p_{label}"] for label in CLASSES], abs=1e-3
                )
        other = next(name for name in ARCHITECTURES if name != summary["winner"])
        picture = io.BytesIO()
        Image.linear_gradient("L").save(picture, "PNG")
        asked = requests.post(
            f"{address}/predict", files={"image": picture.getvalue()}, data={"model": other}, timeout=30
        )
        assert asked.json()["model"] == other
        assert "/predict" in requests.get(f"{address}/docs.json", timeout=5).json()["paths"]
        assert requests.get(f"{address}/metrics", timeout=5).ok
        wrong = requests.post(f"{address}/predict", files={"image": ("scan.png", b"no image")}, timeout=5)
        assert wrong.status_code == 422 and wrong.json()["error"] == "unreadable_image"
        unknown = requests.post(
            f"{address}/predict", files={"image": picture.getvalue()}, data={"model": "vgg"}, timeout=5
        )
        assert unknown.status_code == 404 and "choose from" in unknown.json()["detail"]
        nothing = requests.post(f"{address}/predict", timeout=5)
        assert nothing.status_code == 415 and nothing.json()["error"] == "unsupported_media_type"


@pytest.mark.slow
def test_an_experiment_runs_one_architecture_that_needs_no_code(workspace):
    """A fifth network is one file in conf/model; `dvc exp run` composes, trains and packages it alone."""
    file = workspace / "conf/model/mobilenet_v3_small.yaml"
    file.write_text(
        "architectures:\n"
        "  mobilenet_v3_small: {builder: mobilenet_v3_small, options: {}, weights: '', feature_layer: features,\n"
        "    fine_layer: features.3, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\n"
    )
    overrides = [part for change in THUMBNAIL for part in ("-S", change)]
    run(
        workspace,
        "dvc",
        "exp",
        "run",
        "-S",
        "model=mobilenet_v3_small",
        "-S",
        "train.lr=0.002",
        "-S",
        "seed=3",
        *overrides,
    )
    summary = read_json(workspace / "metrics/details/summary.json")
    assert list(summary["models"]) == ["mobilenet_v3_small"] == [summary["winner"]]
    assert "mobilenet_v3_small" in run(workspace, "dvc", "exp", "show", "--csv").stdout


def test_an_unknown_choice_is_refused_with_the_legal_ones(workspace):
    for group, legal in (("model", "efficientnet_b1"), ("data", "figshare")):
        refused = run(workspace, "dvc", "exp", "run", "-S", f"{group}=nonsense", check=False)
        assert refused.returncode != 0
        printed = refused.stdout + refused.stderr
        assert "nonsense" in printed and legal in printed and "Traceback" not in printed


@pytest.mark.slow
def test_a_held_out_source_may_lack_a_class(workspace, tmp_path):
    """Nothing is tumour-free there: what can't be scored is left out everywhere, down to the packaged service."""
    phantoms = dataset.read(workspace / "artifacts/splits", CLASSES).index
    rows = phantoms[(phantoms["patient"].factorize()[0] % 3 > 0) | (phantoms["label"] != "notumor")]
    for path, label in zip(rows["path"], rows["label"], strict=True):
        target = tmp_path / "data" / label / path.replace("/", "-")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(workspace / "artifacts/dataset" / path, target)
    patients = rows[["patient"]].assign(
        path=rows["label"] + "/" + rows["path"].str.replace("/", "-"),
        source=np.where(phantoms["patient"].factorize()[0][rows.index] % 3, "here", "there"),
    )
    patients.to_csv(tmp_path / "data/patients.csv", index=False)
    one = ["model=efficientnet_b0", "data=local", "split.protocol=source", "split.held_out=there"]
    make(tmp_path, [*one, *(change for change in THUMBNAIL if not change.startswith("data."))])
    run(tmp_path, "dvc", "repro")
    tested = read_json(tmp_path / "metrics/details/evaluate/efficientnet_b0.json")["test"]
    assert list(tested["per_class"]) == ["glioma", "meningioma", "pituitary"]
    assert read_json(tmp_path / "metrics/details/summary.json")["winner"] == "efficientnet_b0"
    for name in ("model_card.md", "report.html"):
        assert not re.search(r"\bnan( \[|,|\]|<)", (tmp_path / "artifacts/report" / name).read_text()), name
    assert (tmp_path / "artifacts/service/service.json").exists()
