"""Choose the winner by the written rule and put all networks into one table."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from mri.base import cli
from mri.base.files import read_json, write_csv, write_json
from mri.base.params import FILE, Params
from mri.base.paths import DAGSHUB, METRICS, PLOTS, PREDICTIONS, SPLITS
from mri.data import dataset
from mri.evaluation.comparison import compare
from mri.evaluation.confidence import reliability_curve, risk_coverage_curve
from mri.evaluation.scores import missed_tumours
from mri.evaluation.selection import Candidate, behind_the_best, choose, explain
from mri.report import headlines, tables
from mri.tracking import dagshub
from mri.tracking.run import track


def select(params: Params) -> None:
    """Write metrics/summary.json: the rule, the winner, the numbers that decided, and the table of all networks.

    And what is plotted for all networks together: plots/*.csv; and dagshub/, the same numbers in DagsHub's form.
    """
    names = list(params.model.architectures)
    costs = {name: read_json(METRICS / "benchmark" / f"{name}.json") for name in names}
    scores = {name: read_json(METRICS / "evaluate" / f"{name}.json") for name in names}
    served = {name: cost["runtimes"][_runtime(params, cost)] for name, cost in costs.items()}
    candidates = _candidates(params, names, served)
    winner = choose(params.select.rule, candidates)
    table = {
        name: {
            **{part: _headline(scores[name][part]) for part in ("val", "test")},
            "latency_ms_p50": served[name]["latency_ms_p50"],
            "size_mb": served[name]["size_mb"],
            "precision": costs[name]["served"],
            "gmac": costs[name]["gmac"],
            "params": costs[name]["params"],
        }
        for name in names
    }
    predictions = _together(PREDICTIONS, names)
    tests = predictions[predictions["split"] == "test"]
    summary = {
        "dataset": params.data.name,
        "data_version": dataset.version(SPLITS),
        "protocol": params.split.protocol,
        **explain(params.select.rule, winner, candidates),
        "models": table,
        "test_comparisons": _comparisons(params, tests, names),
        "baselines": read_json(METRICS / "data.json")["baselines"][params.split.protocol],
    }
    write_json(summary, METRICS / "summary.json")
    _plots(tests, names, params.data.classes, table)
    headlined = {name: headlines.selection(row) for name, row in table.items()}
    dagshub.write(DAGSHUB, params.model_dump(mode="json"), headlined, _together(PLOTS / "history", names))
    _track(params, summary, headlined)
    print(f"winner: {winner.name} (test macro-F1 {table[winner.name]['test']['macro_f1']['value']:.3f})")


def _runtime(params: Params, cost: dict) -> str:
    """The runtime whose figures count for a network."""
    return f"openvino_{cost['served']}" if params.select.runtime == "served" else params.select.runtime


def _track(params: Params, summary: dict, headlined: dict[str, dict]) -> None:
    """Numbers and parameters of every network, also of those whose own stages had nothing to do; then the choice."""
    data = {"data": params.data.name, "winner": summary["winner"]}
    train = {"size": params.size, "train": params.train.model_dump()}
    for name, scores in headlined.items():
        with track(f"select@{name}", data | {"winner": "yes" if name == summary["winner"] else "no"}) as run:
            run.params({"arch": name, **train})
            run.metrics(scores)
            run.file(PLOTS / "history" / f"{name}.csv", "plots")
    note = tables.networks(summary, params.data.name, read_json(METRICS / "data.json")["leakage"]["split"])
    with track("select", data | {"mlflow.note.content": note}) as run:
        run.params(params.model_dump(mode="json"))
        run.metrics(headlined[summary["winner"]])
        run.file(METRICS / "summary.json", "metrics")
        run.file(METRICS / "data.json", "metrics")
        run.file(FILE)
        for path in sorted(PLOTS.glob("*.csv")):
            run.file(path, "plots")


def _candidates(params: Params, names: list[str], served: dict[str, dict]) -> list[Candidate]:
    tables = {name: pd.read_csv(PREDICTIONS / f"{name}.csv").query("split == 'val'") for name in names}
    classes = params.data.classes
    labels, groups = (tables[names[0]][column].to_numpy() for column in ("label", "group"))
    predicted = {name: table["predicted"].map(classes.index).to_numpy() for name, table in tables.items()}
    truth = np.array([classes.index(label) for label in labels])
    points, behind = behind_the_best(predicted, truth, groups, len(classes), params.evaluate.resamples, params.seed)
    return [
        Candidate(name, points[name], behind[name], served[name]["latency_ms_p50"], served[name]["size_mb"])
        for name in names
    ]


def _plots(tests: pd.DataFrame, names: list[str], classes: list[str], table: dict[str, dict]) -> None:
    """What dvc.yaml plots of all networks together."""
    confusion = tests.rename(columns={"label": "actual"})[["architecture", "actual", "predicted"]]
    write_csv(confusion, PLOTS / "confusion.csv")
    write_csv(_per_network(tests, names, classes, reliability_curve), PLOTS / "reliability.csv", digits=5)
    write_csv(_per_network(tests, names, classes, _risk_coverage), PLOTS / "risk_coverage.csv", digits=5)
    write_csv(_together(PLOTS / "history", names), PLOTS / "training.csv", digits=5)
    write_csv(_score_against_latency(table), PLOTS / "score_against_latency.csv")


def _comparisons(params: Params, tests: pd.DataFrame, names: list[str]) -> list[dict]:
    """Every pair of networks on the test images. It doesn't choose the winner, which validation images do."""
    classes = params.data.classes
    own = [tests[tests["architecture"] == name] for name in names]
    predicted = {name: table["predicted"].map(classes.index).to_numpy() for name, table in zip(names, own, strict=True)}
    labels, groups = own[0]["label"].map(classes.index).to_numpy(), own[0]["group"].to_numpy()
    pairs = compare(predicted, labels, groups, len(classes), "macro_f1", params.evaluate.resamples, params.seed)
    return [asdict(pair) for pair in pairs]


def _per_network(
    tests: pd.DataFrame, names: list[str], classes: list[str], curve: Callable[[np.ndarray, np.ndarray], pd.DataFrame]
) -> pd.DataFrame:
    """The curves of all networks below one another. curve: takes probabilities (N, C) and labels (N,)."""
    tables = []
    for name in names:
        own = tests[tests["architecture"] == name]
        probabilities = own[[f"p_{label}" for label in classes]].to_numpy()
        tables.append(curve(probabilities, own["label"].map(classes.index).to_numpy()).assign(architecture=name))
    return pd.concat(tables, ignore_index=True)


def _risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    return risk_coverage_curve(probabilities.max(1), probabilities.argmax(1) != labels)


def _together(folder: Path, names: list[str]) -> pd.DataFrame:
    """The tables folder/NAME.csv below one another, with a column that says whose each row is."""
    tables = [pd.read_csv(folder / f"{name}.csv").assign(architecture=name) for name in names]
    return pd.concat(tables, ignore_index=True)


def _headline(scores: dict) -> dict:
    """Each {value, low, high}; missed_tumour_rate is there where a class means "no tumour"."""
    return {name: scores[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")} | missed_tumours(scores)


def _score_against_latency(table: dict[str, dict]) -> pd.DataFrame:
    rows = [
        {"architecture": name, "latency_ms": row["latency_ms_p50"], "test_macro_f1": row["test"]["macro_f1"]["value"]}
        for name, row in table.items()
    ]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    cli.run_stage(select)
