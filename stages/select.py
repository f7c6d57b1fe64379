"""Choose the winner by the written rule and put all networks into one table."""

from pathlib import Path
from typing import Any

import pandas as pd

from mri.base import cli, deselected
from mri.base.files import read_json, write_json
from mri.base.params import FILE, Params
from mri.base.paths import DAGSHUB, DETAILS, PLOTS, PREDICTIONS, SCORES, SPLITS
from mri.data import dataset
from mri.evaluation.comparison import compare_predictions
from mri.evaluation.selection import candidates, choose, explain
from mri.report import curves, summary
from mri.report.rendering import render
from mri.tracking import dagshub
from mri.tracking.run import track


def select(params: Params) -> None:
    """Write metrics/scores (the few numbers by which runs are compared, a file per network, one for the winner and one
    for the best trivial classifier), metrics/details/summary.json (the rule, the numbers that decided, the table of all
    networks), plots/summary (all networks together) and dagshub/ (the same numbers in DagsHub's form)."""
    names, classes = list(params.model.architectures), params.data.classes
    evaluation, explanation, export, benchmark = (
        {name: read_json(DETAILS / stage / f"{name}.json") for name in names}
        for stage in ("evaluate", "explain", "export", "benchmark")
    )
    served = {name: benchmark[name]["runtimes"][_runtime(params, export[name])] for name in names}
    rows = {name: summary.row(evaluation[name], export[name], served[name]) for name in names}
    baselines = read_json(DETAILS / "data.json")["baselines"][params.split.protocol]
    predictions, history = _together(PREDICTIONS, names), _together(PLOTS / "history", names)
    contenders = candidates(predictions[predictions["split"] == "val"], classes, served, *_bootstrap(params))
    winner, tests = choose(params.select.rule, contenders), predictions[predictions["split"] == "test"]
    content = {
        "dataset": params.data.name,
        "data_version": dataset.version(SPLITS),
        "protocol": params.split.protocol,
        **explain(params.select.rule, winner, contenders),
        "models": rows,
        "test_comparisons": compare_predictions(tests, classes, "macro_f1", *_bootstrap(params)),
        "baselines": baselines,
    }
    write_json(content, DETAILS / "summary.json")
    headlines = {name: summary.headline(rows[name], evaluation[name], explanation[name]) for name in names}
    for name, numbers in headlines.items():
        write_json(numbers, SCORES / f"{name}.json")
    write_json({"name": winner.name, **headlines[winner.name]}, SCORES / "winner.json")
    write_json(summary.best_trivial(baselines), SCORES / "best_trivial.json")
    curves.write(PLOTS / "summary", tests, history, rows, classes)
    dagshub.write(DAGSHUB, params.model_dump(mode="json"), headlines, history)
    _track(params, content, headlines)
    print(f"winner: {winner.name} (test macro-F1 {headlines[winner.name]['macro_f1']:.3f})")
    if gone := deselected.note(names):
        print(gone)


def _runtime(params: Params, export: dict[str, Any]) -> str:
    """Return the runtime whose figures count for a network."""
    return f"openvino_{export['served']}" if params.select.runtime == "served" else params.select.runtime


def _bootstrap(params: Params) -> tuple[int, int]:
    return params.evaluate.resamples, params.seed


def _together(folder: Path, names: list[str]) -> pd.DataFrame:
    """Return the tables folder/NAME.csv below one another, with a column for the network."""
    return pd.concat([pd.read_csv(folder / f"{n}.csv").assign(architecture=n) for n in names], ignore_index=True)


def _track(params: Params, content: dict[str, Any], headlines: dict[str, dict]) -> None:
    """Track every network, also those whose own stages had nothing to do; then the choice."""
    tags, winner = {"data": params.data.name, "winner": content["winner"]}, content["winner"]
    train = {"size": params.size, "train": params.train.model_dump()}
    for name, numbers in headlines.items():
        with track(f"select@{name}", tags | {"winner": "yes" if name == winner else "no"}) as run:
            run.params({"arch": name, **train})
            run.metrics(numbers)
            run.file(PLOTS / "history" / f"{name}.csv", "plots")
    leakage = read_json(DETAILS / "data.json")["leakage"]["split"]
    note = render({"summary": content, "name": params.data.name, "leakage": leakage}, "networks.md")
    with track("select", tags | {"mlflow.note.content": note}) as run:
        run.params(params.model_dump(mode="json"))
        run.metrics(headlines[winner])
        for path in (DETAILS / "summary.json", DETAILS / "data.json"):
            run.file(path, "metrics")
        run.file(FILE)
        for path in sorted((PLOTS / "summary").glob("*.csv")):
            run.file(path, "plots")


if __name__ == "__main__":
    cli.run_stage(select)
