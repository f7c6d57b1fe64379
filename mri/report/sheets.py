"""Draw images with their maps, and what is in a dataset; charts of scores are in `mri.report.charts`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
CELL, LEFT, TOP, BOTTOM = 1.75, 0.7, 0.65, 0.75  # inches: a picture, and the sheet's margins


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


@dataclass(frozen=True)
class Panel:
    """A column of a sheet: scans, uint8 (N, S, S), with tumours' outlines, bool (N, S, S), and raw maps over them.

    below: (N,), a text below each; none where empty.
    """

    pixels: np.ndarray
    masks: np.ndarray
    maps: np.ndarray | None = None
    below: Sequence[str] = ()


def explanation_sheet(
    pixels: np.ndarray,
    masks: np.ndarray,
    maps: dict[str, np.ndarray],
    captions: list[str],
    title: str,
    below: Mapping[str, list[str]] = NOTHING,
) -> Figure:
    """Draw one row per image: the scan with the tumour's outline, then the maps of every column over the scan.

    pixels: uint8 (N, S, S). masks: bool (N, S, S). maps: {column: (N, S, S)}, raw. below: {column: (N,)}, texts below
    the maps. As `panels` draws them.
    """
    columns = {name: Panel(pixels, masks, values, below.get(name, ())) for name, values in maps.items()}
    return panels({"scan": Panel(pixels, masks), **columns}, captions, title)


def panels(columns: dict[str, Panel], captions: list[str], title: str) -> Figure:
    """Draw one row per image, with its caption, and one column per panel.

    Colour runs from 0 to the map's own maximum, nothing is cut off or sharpened; opacity is constant.
    """
    gap = 0.22 if any(panel.below for panel in columns.values()) else 0.05
    figure, axes = _grid(len(captions), len(columns), gap)
    for axis, caption in zip(axes[:, 0], captions, strict=True):
        axis.set_ylabel(caption, fontsize=7)
    for column, (name, panel) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(name, fontsize=8)
        for row, axis in enumerate(column):
            _scan(axis, panel.pixels[row], panel.masks[row])
            if panel.maps is not None:
                values = panel.maps[row]
                axis.imshow(values, cmap=COLOURS, alpha=OPACITY, vmin=0, vmax=values.max() or 1)
        for axis, text in zip(column, panel.below, strict=False):
            axis.set_xlabel(text, fontsize=7, labelpad=2)
    _colour_bar(figure, any(panel.masks.any() for panel in columns.values()))
    figure.suptitle(title, fontsize=10, y=1 - 0.1 / figure.get_size_inches()[1], va="top")
    return figure


def _grid(rows: int, columns: int, gap: float) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, (rows, columns), at fixed places: matplotlib's layouts take seconds for so many.

    gap: between rows, in inches.
    """
    width, height = LEFT + columns * (CELL + 0.05), TOP + rows * (CELL + gap) + BOTTOM
    margins = {"left": LEFT / width, "right": 1, "top": 1 - TOP / height, "bottom": BOTTOM / height}
    spaces = {"wspace": 0.05 / CELL, "hspace": gap / CELL}
    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, gridspec_kw=margins | spaces)


def _colour_bar(figure: Figure, outlined: bool) -> None:
    """Draw the palette below all maps, opaque: on the sheet, colours are blended with the scan."""
    height = figure.get_size_inches()[1]
    place = figure.add_axes((0.3, (BOTTOM - 0.35) / height, 0.4, 0.1 / height))
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), cax=place, orientation="horizontal")
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


def suspect_sheet(pixels: np.ndarray, rows: np.ndarray, suspects: pd.DataFrame, most: int = 20) -> Figure:
    """Draw the clearest suspicious images of every reason, `most` each, with id, label and the class preferred to it.

    pixels: uint8 (N, S, S). rows: int (K,), of `suspects`, which has columns id, label, reason, other and score and at
    least one row.
    """
    columns = 10
    parts = [part.head(most) for _, part in suspects.assign(row=rows).groupby("reason", sort=False)]
    heights = [math.ceil(len(part) / columns) for part in parts]
    figure = plt.figure(figsize=(1.5 * columns, 1.9 * sum(heights) + 0.4 * len(parts)), layout="constrained")
    sections = np.atleast_1d(np.array(figure.subfigures(len(heights), 1, height_ratios=heights)))
    for section, part, height in zip(sections, parts, heights, strict=True):
        reason = part["reason"].iloc[0]
        total = int((suspects["reason"] == reason).sum())
        section.suptitle(f"suspicious, {reason.replace('_', ' ')}: {len(part)} of {total}", fontsize=9)
        axes = section.subplots(height, columns, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, image in zip(axes.flat, part.itertuples(), strict=False):
            axis.imshow(pixels[image.row], cmap="gray", vmin=0, vmax=255)
            doubt = f", rather {image.other}?" if image.other else ""
            axis.set_title(f"{image.id.rsplit('/', 1)[-1]}\n{image.label}{doubt}", fontsize=6)
    return figure
