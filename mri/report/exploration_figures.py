"""Draw a dataset for notebooks/exploratory.ipynb; the tables shown are computed in `mri.report.exploration`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mri.data.dataset import Dataset
from mri.report.exploration import examples
from mri.report.sheets import OUTLINE, blank, duplicate_sheet


def sample_sheet(data: Dataset, column: str, columns: int = 8, seed: int = 0) -> Figure:
    """Draw a row of unrelated images, as networks see them, for each value of an index column; tumours outlined."""
    names = data.classes if column == "label" else sorted(set(data.index[column]) - {""})
    if len(names) < 2:
        return blank(f"one {column} only: {names[0]}" if names else f"{column} not known")
    figure = Figure(figsize=(1.25 * columns, 1.25 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    shown = examples(data.index, column, columns, seed)
    for line, name in zip(axes, names, strict=True):
        line[0].set_ylabel(name)
        for axis, image in zip(line, shown[shown[column] == name].itertuples(), strict=False):
            axis.imshow(data.pixels[image.row], cmap="gray", vmin=0, vmax=255)
            if image.mask_row >= 0:
                axis.contour(data.masks[image.mask_row], levels=[0.5], colors=OUTLINE, linewidths=0.8)
    return figure


def histograms(frame: pd.DataFrame, by: str, names: Sequence[str], columns: dict[str, str], bins: int = 40) -> Figure:
    """Draw histograms: a row per group of images, a column per property, bars as shares of the group.

    names: values of column `by`, the rows. columns: property and the title of its axis. Panels of one column have the
    same scales.
    """
    if frame.empty:
        return blank("no such image")
    figure = Figure(figsize=(1.2 + 2.4 * len(columns), 0.5 + 0.75 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(columns), squeeze=False, sharex="col", sharey="col")
    for panels, (column, title) in zip(axes.T, columns.items(), strict=True):
        edges = np.histogram_bin_edges(frame[column], bins)
        for number, (axis, name) in enumerate(zip(panels, names, strict=True)):
            values = frame.loc[frame[by] == name, column]
            axis.hist(values, edges, weights=np.full(len(values), 1 / max(len(values), 1)), color=f"C{number}")
            axis.set(yticks=[])
            axis.locator_params(axis="x", nbins=4)
            axis.tick_params(labelsize=8)
            axis.spines[["left", "right", "top"]].set_visible(False)
        panels[-1].set_xlabel(title)
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def grey_levels(frame: pd.DataFrame, levels: np.ndarray, groups: dict[str, Sequence[str]]) -> Figure:
    """Draw the share of pixels at each grey level, averaged over the images of a group: one line per group.

    levels: (N, 256), see `mri.report.exploration.measure`. groups: a column of `frame` and its values, for each panel.
    The axis is logarithmic: most pixels are background.
    """
    figure = Figure(figsize=(4.8 * len(groups), 3), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axis, (column, names) in zip(panels, groups.items(), strict=True):
        for name in names:
            axis.plot(100 * levels[(frame[column] == name).to_numpy()].mean(0), linewidth=1.2, label=name)
        axis.set(yscale="log", ylim=(0.001, 100), xlabel="grey level", ylabel="% of pixels", title=f"by {column}")
        axis.legend(fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def pair_sheet(pixels: np.ndarray, index: pd.DataFrame, pairs: pd.DataFrame, title: str) -> Figure:
    """Draw `mri.report.sheets.duplicate_sheet` of pairs of any kind, or say that there are none."""
    if pairs.empty:
        return blank(f"{title}: none")
    return duplicate_sheet(pixels, index, pairs, title)


def baseline_scores(metrics: dict[str, Any], classes: Sequence[str]) -> Figure:
    """Draw the trivial classifiers' balanced accuracy with its interval, by protocol; guessing is the dashed line."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axis = figure.subplots()
    for number, (protocol, scores) in enumerate(metrics["baselines"].items()):
        score = pd.DataFrame({name: row["balanced_accuracy"] for name, row in scores.items()}).T * 100
        spread = [score["value"] - score["low"], score["high"] - score["value"]]
        height = np.arange(len(score)) + 0.2 * number
        axis.errorbar(score["value"], height, xerr=spread, fmt="o", capsize=3, label=f"{protocol} split")
        axis.set_yticks(range(len(score)), [name.replace("_", " ") for name in score.index])
    axis.axvline(100 / len(classes), color="grey", linestyle="--", label="guessing")
    axis.invert_yaxis()
    axis.set(xlabel="balanced accuracy on test images, %", xlim=(0, 100))
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize=8)
    return figure
