"""Classify every image and every series in a folder with the packaged networks, into tables.

    python -m mri.commands.predict FOLDER --out predictions.csv

The networks and functions are the service's, so the tables say what the service would answer.

predictions.csv has one row per image and per slice of a series: path, series, slice (its number from the feet, the back
or the left), plane, position in mm, label, the probability of each class, the prediction set, abstain and reasons, the
model, its version, the data it was trained on, and notes on what had to be assumed of the file. A file that can't be
read has an error instead and is named on stderr. predictions-series.csv has one row per series: its plane, how many
slices it has and how far apart they are, and what was left out of it and why. What is no MR image is skipped, and
counted by reason on stderr.

Both tables are whole when the command ends; a run that is interrupted says so in the last row. The exit code is 1 when
a file could not be read. Text that a spreadsheet would take for a formula has an apostrophe before it.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mri.base.cli import Parser, guarded
from mri.base.errors import UserError
from mri.base.paths import SERVICE
from mri.data import images
from mri.inference.package import BATCH, Network, Opinion, Package

SERIES_COLUMNS = [
    "path",
    "plane",
    "slices",
    "spacing_mm",
    "first_mm",
    "last_mm",
    "left_out",
    "reasons",
    "notes",
    "error",
]


@dataclass
class Summary:
    """What became of the files of a folder. skipped: how many, by reason."""

    images: int = 0
    series: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Input:
    """One row of the table before the network has seen it: what it says, and uint8 (size, size) or None."""

    row: dict[str, Any]
    pixels: np.ndarray | None = None


def predict(folder: Path, out: Path, package: Package, model: str = "") -> Summary:
    """Write the table of all images below `folder` to `out` and that of the series beside it.

    Raises UserError when there is nothing to read or nowhere to write, and for an unknown model.
    """
    network = package.network(model)
    contents = find(folder)
    summary = Summary(skipped=Counter(one.reason for one in contents.left_out))
    series_rows: list[dict[str, Any]] = []
    inputs = _inputs(contents, network.size, summary, series_rows)
    total = len(contents.images) + len(contents.stacks) + len(contents.damaged)
    _write(out, _columns(package), _rows(tqdm(inputs, unit="image", disable=None), network, package), total)
    _write(out.with_name(f"{out.stem}-series{out.suffix}"), SERIES_COLUMNS, series_rows, len(series_rows))
    return summary


def find(folder: Path) -> images.Contents:
    """Return the images and series below `folder`. Raises UserError when there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds images")
    contents = images.look(folder)
    if not (contents.images or contents.stacks or contents.damaged):
        reasons = _counted(Counter(one.reason for one in contents.left_out))
        raise UserError(f"{folder} holds no image that can be classified ({reasons or 'it is empty'})")
    return contents


def _columns(package: Package) -> list[str]:
    place = ["path", "series", "slice", "plane", "position_mm"]
    answer = ["label", *(f"p_{name}" for name in package.classes), "set", "abstain", "reasons"]
    return [*place, *answer, "model", "model_version", "dataset", "data_version", "synthetic", "notes", "error"]


def _write(out: Path, columns: list[str], rows: Iterable[dict[str, Any]], total: int) -> None:
    """Write a table; an interruption is told in its last row. Raises UserError when it can't be written."""
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, columns, restval="")
            table.writeheader()
            written = 0
            try:
                for row in rows:
                    table.writerow({key: _cell(value) for key, value in row.items()})
                    written += 1
            except BaseException:
                table.writerow({"error": f"the table ends here: interrupted after {written} rows of {total} files"})
                raise
    except OSError as error:
        raise UserError(f"{out} can't be written ({error.strerror})") from None


def _cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _inputs(
    contents: images.Contents, size: int, summary: Summary, series_rows: list[dict[str, Any]]
) -> Iterator[_Input]:
    """What goes into the table, in the order of paths; series are noted in `series_rows`."""
    everything: list[images.File | images.Stack | images.LeftOut] = [
        *contents.images,
        *contents.stacks,
        *contents.damaged,
    ]
    for item in sorted(everything, key=lambda one: one.name):
        yield from _inputs_of(item, size, summary, series_rows)


def _inputs_of(
    item: images.File | images.Stack | images.LeftOut, size: int, summary: Summary, series_rows: list[dict[str, Any]]
) -> Iterator[_Input]:
    """The rows of one image, series or damaged file."""
    name = item.name
    try:
        if isinstance(item, images.LeftOut):
            raise images.ImageError(f"{name}: {item.reason}")
        if isinstance(item, images.Stack):
            yield from _of_series(images.read_stack(item), size, summary, series_rows)
        else:
            yield _of_slice(images.read_slice(item.data(), name), {"path": name}, size)
            summary.images += 1
    except images.ImageError as error:
        summary.failed += 1
        tqdm.write(str(error), file=sys.stderr)
        if isinstance(item, images.Stack):
            series_rows.append({"path": name, "error": str(error)})
        yield _Input({"path": name, "error": str(error)})


def _of_series(
    series: images.Series, size: int, summary: Summary, series_rows: list[dict[str, Any]]
) -> Iterator[_Input]:
    """The slices of a series, and its row."""
    positions = [one.position for one in series.slices if one.position is not None]
    spacing = series.spacing
    series_rows.append(
        {
            "path": series.name,
            "plane": series.plane,
            "slices": len(series.slices),
            "spacing_mm": "" if spacing is None else f"{spacing:.4g}",
            "first_mm": f"{positions[0]:.2f}" if positions else "",
            "last_mm": f"{positions[-1]:.2f}" if positions else "",
            "left_out": len(series.left_out),
            "reasons": _counted(Counter(one.reason for one in series.left_out)),
            "notes": "; ".join(series.notes),
        }
    )
    summary.series += 1
    for number, one in enumerate(series.slices, 1):
        summary.images += 1
        yield _of_slice(one, {"path": one.name, "series": series.name, "slice": number}, size)


def _of_slice(one: images.Slice, row: dict[str, Any], size: int) -> _Input:
    position = None if one.position is None else round(one.position, 2)
    place = {"plane": one.plane, "position_mm": position, "notes": "; ".join(one.notes)}
    return _Input(row | place, images.prepare(one.pixels, size))


def _rows(inputs: Iterable[_Input], network: Network, package: Package) -> Iterator[dict[str, Any]]:
    """Rows of the table, in order; as many images as go through the network together are read at a time."""
    waiting = iter(inputs)
    while batch := list(islice(waiting, BATCH)):
        pixels = [one.pixels for one in batch if one.pixels is not None]
        opinions = iter(network.opinions(np.stack(pixels), features=False) if pixels else [])
        for one in batch:
            yield one.row | (_answer(next(opinions), package) if one.pixels is not None else {})


def _answer(opinion: Opinion, package: Package) -> dict[str, Any]:
    return {
        "label": opinion.label,
        **{f"p_{name}": f"{probability:.6g}" for name, probability in opinion.probabilities.items()},
        "set": " ".join(opinion.members),
        "abstain": opinion.abstains,
        "reasons": " ".join(reason.code for reason in opinion.reasons),
        "model": opinion.model,
        "model_version": package.version(opinion.model),
        **{name: package.about[name] for name in ("dataset", "data_version", "synthetic")},
    }


def _counted(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())


def main(argv: list[str] | None = None) -> None:
    parser = Parser("mri.commands.predict", __doc__)
    parser.add_argument("folder", type=Path, help="where the images and series are: DICOM, NIfTI, zip, PNG, JPEG, TIFF")
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="the table (default: %(default)s)")
    parser.add_argument("--model", default="", help="which network (default: the winner)")
    packaged = Path(os.environ.get("MRI_SERVICE") or SERVICE)
    parser.add_argument(
        "--service", type=Path, default=packaged, help="the package (default: $MRI_SERVICE or %(default)s)"
    )
    arguments = parser.parse_args(argv)
    summary = predict(arguments.folder, arguments.out, Package(arguments.service), arguments.model)
    if summary.skipped:
        print(f"skipped {summary.skipped.total()} files: {_counted(summary.skipped)}", file=sys.stderr)
    series = f" ({summary.series} series)" if summary.series else ""
    print(f"{summary.images} images classified{series}, {summary.failed} could not be read: {arguments.out}")
    print("Research software, not a medical device: not for diagnosis.")
    if summary.failed:
        sys.exit(1)


if __name__ == "__main__":
    guarded(main)
