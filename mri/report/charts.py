"""Draw charts of a run for the report and the notebooks, small enough to be legible on a phone.

A network has the same colour in all of them. They show the tables in plots/ and the numbers in metrics/.
"""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.colors import TABLEAU_COLORS, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from sklearn.metrics import roc_curve

PALETTE = [to_hex(name) for name in TABLEAU_COLORS]
SIZE = (5.2, 3.5)  # inches; two stand side by side on a wide page


def colours(names: list[str]) -> dict[str, str]:
    """Return a colour for each network; they repeat after ten."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def by_epoch(history: pd.DataFrame, column: str, title: str) -> Figure:
    """Draw a column of plots/summary/training.csv by epoch, one line per network."""
    figure, axis = _chart(title, "epoch")
    for name, colour in colours(list(history["architecture"].unique())).items():
        epochs = history[history["architecture"] == name]
        axis.plot(epochs["epoch"], epochs[column], marker=".", label=name, color=colour)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(fontsize=8)
    return figure


def score_against_latency(models: dict[str, Any]) -> Figure:
    """Draw test macro-F1 with its interval against p50 latency; the area of a point is the network's size on disk.

    models: of metrics/details/summary.json. The line joins the networks that no other beats in both (the Pareto front).
    """
    figure, axis = _chart("score against latency", "latency of one image, ms (p50)", "test macro-F1, %")
    points = {name: (row["latency_ms_p50"], 100 * row["test"]["macro_f1"]["value"]) for name, row in models.items()}
    front = sorted(points[name] for name in pareto_front(points))
    axis.plot(*zip(*front, strict=True), color="grey", linestyle=":", linewidth=1, zorder=1)
    above = {name: i % 2 == 0 for i, name in enumerate(sorted(models, key=lambda name: points[name]))}
    for name, colour in colours(list(models)).items():
        (latency, score), size = points[name], models[name]["size_mb"]
        ends = models[name]["test"]["macro_f1"]
        axis.plot([latency] * 2, [100 * ends["low"], 100 * ends["high"]], color=colour, linewidth=1.2, zorder=2)
        axis.scatter(latency, score, s=4 * size, color=colour, alpha=0.7, zorder=3)
        label = {"xytext": (9, 9 if above[name] else -9), "va": "bottom" if above[name] else "top"}  # of neighbours
        axis.annotate(f"{name}\n{size:.0f} MB", points[name], textcoords="offset points", fontsize=8, **label)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    latencies = [latency for latency, _ in points.values()]
    axis.set_xlim(min(latencies) / 1.6, 2.4 * max(latencies))  # room for the last name
    axis.margins(y=0.12)
    return figure


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names in {name: (cost, score)} that no other beats.

    One beats another if it costs no more, scores no less, and is better in one of the two.
    """

    def beaten(name: str) -> bool:
        cost, score = points[name]
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points.values())

    return [name for name in points if not beaten(name)]


def confusion(counts: list[list[int]], classes: list[str], title: str) -> Figure:
    """Draw images by true class (rows) and predicted class (columns); colour is the share of a row."""
    table = np.array(counts)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(3.6, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        axis.text(column, row, count, ha="center", va="center", color="w" if shares[row, column] > 0.5 else "k")
    axis.set_xticks(range(len(classes)), classes, rotation=35, ha="right", fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    axis.set(title=title, xlabel="predicted class", ylabel="true class")
    return figure


def reliability(table: pd.DataFrame) -> Figure:
    """Draw plots/summary/reliability.csv: accuracy against confidence, with intervals; equal on the dashed line."""
    figure, axis = _chart("reliability", "confidence, %", "accuracy, %")
    axis.plot([0, 100], [0, 100], color="grey", linestyle="--", linewidth=1)
    for name, colour in colours(list(table["architecture"].unique())).items():
        bins = 100 * table[table["architecture"] == name][["confidence", "accuracy", "low", "high"]]
        axis.plot(bins["confidence"], bins["accuracy"], marker=".", label=name, color=colour)
        axis.fill_between(bins["confidence"], bins["low"], bins["high"], color=colour, alpha=0.1)
    axis.set(xlim=(20, 101), ylim=(0, 101))
    axis.legend(fontsize=8)
    return figure


def abstaining(table: pd.DataFrame) -> Figure:
    """Draw plots/summary/risk_coverage.csv: the share of errors among the most confident images."""
    figure, axis = _chart("abstaining", "images answered, most confident first, %", "of them wrong, %")
    for name, colour in colours(list(table["architecture"].unique())).items():
        curve = table[table["architecture"] == name]
        axis.plot(100 * curve["coverage"], 100 * curve["risk"], label=name, color=colour)
    axis.legend(fontsize=8)
    return figure


def robustness(tables: dict[str, pd.DataFrame], corruption: str) -> Figure:
    """Draw accuracy by severity of one corruption. tables: plots/robustness/ARCH.csv of each network."""
    figure = Figure(figsize=(2.6, 2.1), layout="constrained")
    axis = figure.subplots()
    for name, colour in colours(list(tables)).items():
        curve = tables[name][tables[name]["corruption"] == corruption]
        axis.plot(curve["severity"], 100 * curve["accuracy"], marker=".", color=colour)
    axis.set(title=corruption.replace("_", " "), xlabel="severity", ylabel="accuracy, %", ylim=(0, 102))
    axis.grid(alpha=0.3)
    return figure


def roc(predictions: pd.DataFrame, classes: list[str], title: str) -> Figure:
    """Draw each class against the rest: true against false positive rate at every threshold.

    predictions: label and p_CLASS of each image, as artifacts/predictions/ARCH.csv has them.
    """
    figure, axis = _chart(title, "false positive rate, %", "true positive rate, %")
    axis.plot([0, 100], [0, 100], color="grey", linestyle="--", linewidth=1)
    for name, colour in colours(classes).items():
        false, true, _ = roc_curve(predictions["label"] == name, predictions[f"p_{name}"])
        axis.plot(100 * false, 100 * true, label=name, color=colour)
    axis.legend(fontsize=8, loc="lower right")
    return figure


def _chart(title: str, x: str, y: str = "") -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axis = figure.subplots()
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis
