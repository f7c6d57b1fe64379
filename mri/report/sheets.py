"""Draw images with their maps, and what is in a dataset; charts of scores are in `mri.report.charts`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mri.data.dataset import PARTS
from mri.inference.overlays import colours

matplotlib.use("Agg")
COLOURS = ListedColormap(colours() / 255)
OUTLINE = "cyan"  # of tumours
NOTHING: Mapping[str, list[str]] = {}
OPACITY = 0.55  # of a map over its scan


def save(figure: Figure, path: Path, dpi: int = 72) -> None:
    """Write a PNG, for charts, or a JPEG, for sheets of scans: a sixth of the size, and sheets are committed.

    Without a date or version, so that the same picture is the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    how: dict = {"metadata": {"Software": None}} if path.suffix == ".png" else {"pil_kwargs": {"quality": 85}}
    figure.savefig(path, dpi=dpi, bbox_inches="tight", **how)
    plt.close(figure)


def named(data: str, source: str) -> str:
    """Return a dataset's name for a title, marked where no patient was scanned: "phantom (synthetic images)".

    source: `data.source` of the parameters.
    """
    return f"{data} (synthetic images)" if source == "phantom" else data


def explanation_sheet(
    pixels: np.ndarray,
    masks: np.ndarray,
    maps: dict[str, np.ndarray],
    captions: list[str],
    title: str,
    below: Mapping[str, list[str]] = NOTHING,
) -> Figure:
    """Draw one row per image: the scan with the tumour's outline, then the maps of every column over the scan.

    pixels: uint8 (N, S, S). masks: bool (N, S, S). maps: {column: (N, S, S)}, raw. Colour runs from 0 to the map's own
    maximum, nothing is cut off or sharpened; opacity is constant. below: {column: (N,)}, the text below each map.
    """
    rows, columns = len(pixels), 1 + len(maps)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.9 * columns, (2.0 if below else 1.85) * rows + 1), squeeze=False, layout="constrained"
    )
    for row in range(rows):
        _scan(axes[row, 0], pixels[row], masks[row])
        axes[row, 0].set_ylabel(captions[row], fontsize=7)
        for column, values in enumerate(maps.values(), start=1):
            _scan(axes[row, column], pixels[row], masks[row])
            axes[row, column].imshow(values[row], cmap=COLOURS, alpha=OPACITY, vmin=0, vmax=values[row].max() or 1)
    for column, name in enumerate(maps, start=1):
        for axis, text in zip(axes[:, column], below.get(name, ()), strict=False):
            axis.set_xlabel(text, fontsize=7, labelpad=2)
    for axis, name in zip(axes[0], ["scan", *maps], strict=True):
        axis.set_title(name, fontsize=8)
    _colour_bar(figure, axes, bool(masks.any()))
    figure.suptitle(title, fontsize=10)
    return figure


def _colour_bar(figure: Figure, axes: np.ndarray, outlined: bool) -> None:
    """Draw the palette below all maps, opaque: on the sheet, colours are blended with the scan."""
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.01)
    bar.set_ticks([0, 1], labels=["0", "the map's maximum"])
    bar.ax.tick_params(labelsize=7)
    outline = f"; {OUTLINE}: the tumour's outline" if outlined else ""
    bar.set_label(f"maps lie over the scan with an opacity of {OPACITY:.0%}{outline}".replace("%", " %"), fontsize=7)


def _scan(axis: plt.Axes, pixels: np.ndarray, mask: np.ndarray) -> None:
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    if mask.any():
        axis.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=0.8)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def blank(text: str) -> Figure:
    """Draw a text that says why there is no picture, on axes: notebooks don't show a figure without any."""
    figure = Figure(figsize=(6, 0.3 * len(text.splitlines())))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.text(0, 0.5, text, va="center", style="italic")
    axis.set_axis_off()
    return figure


def class_counts(index: pd.DataFrame, classes: list[str]) -> Figure:
    """Draw the numbers of images by class and part of the split, and by class and source."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axis, column in zip(axes, ("split", "source"), strict=True):
        table = pd.crosstab(index["label"], index[column].replace("", "unused")).reindex(classes)
        table = table[sorted(table.columns, key=lambda name: (*PARTS, "unused", name).index(name))]
        left = np.zeros(len(classes))
        for name in table.columns:
            axis.barh(classes, table[name], left=left, label=name)
            left += table[name].to_numpy()
        axis.invert_yaxis()
        axis.set(title=f"images by class and {column}")
        axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def images_per_patient(index: pd.DataFrame) -> Figure:
    """Draw how many images patients have; an unknown patient is represented by its group of related images."""
    figure, axis = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
    counts = index["patient"].where(index["patient"] != "", index["group"]).value_counts()
    axis.hist(counts, bins=[edge + 0.5 for edge in range(counts.max() + 1)], color="tab:blue")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="images", ylabel="patients", title=f"{len(counts)} patients or groups")
    return figure


def duplicate_sheet(pixels: np.ndarray, index: pd.DataFrame, pairs: pd.DataFrame, title: str) -> Figure:
    """Draw two rows of pairs of one picture, evenly spaced among all pairs, of which there is at least one.

    pixels: uint8 (N, S, S). pairs: a, b (rows of `index`), transform and correlation.
    """
    columns = min(6, math.ceil(len(pairs) / 2))
    shown = pairs.iloc[np.linspace(0, len(pairs) - 1, min(2 * columns, len(pairs))).astype(int)]
    figure, axes = plt.subplots(4, columns, figsize=(1.7 * columns, 7.6), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for number, pair in enumerate(shown.itertuples()):
        row, column = divmod(number, columns)
        for offset, end in ((0, pair.a), (1, pair.b)):
            axis = axes[2 * row + offset, column]
            axis.imshow(pixels[end], cmap="gray", vmin=0, vmax=255)
            origin = (index["official_split"].iloc[end], index["label"].iloc[end])
            axis.set_title(": ".join(filter(None, origin)), fontsize=7)
        axes[2 * row + 1, column].set_xlabel(pair.transform)
        axes[2 * row + 1, column].text(
            0.5,
            -0.06,
            f"{pair.transform}, NCC {pair.correlation:.3f}",
            transform=axes[2 * row + 1, column].transAxes,
            ha="center",
            va="top",
            fontsize=6,
        )
    figure.suptitle(f"{title}: {len(shown)} of {len(pairs):,} pairs", fontsize=10)
    return figure
