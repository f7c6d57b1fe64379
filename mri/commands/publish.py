"""Publish this run as results/NAME, and fill README.md and docs/ with the figures of all published runs.

    python -m mri.commands.publish kaggle
    python -m mri.commands.publish kaggle --package      # with a network that `make serve MODEL=kaggle` serves
    python -m mri.commands.publish                       # only fill the pages again

A published run has its params.yaml, metrics, training and robustness curves, its model card under the published name,
and split.csv: the part that each image was in, and what it is a copy of, so that others can repeat or check the split.
The package has the winner, or where that is too large (`mri.export.compact`) the smallest network that can't be told
from the best. In the pages, each part between markers is rendered from mri/report/templates/published/PART.md.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mri.base import params
from mri.base.cli import Parser, guarded
from mri.base.errors import UserError
from mri.base.files import read_json, write_json
from mri.base.params import FILE
from mri.base.paths import DETAILS, PLOTS, RESULTS, SERVICE, SPLITS
from mri.data import dataset
from mri.export import compact
from mri.inference.package import ABOUT, Package
from mri.report import metrics, model_card
from mri.report.rendering import render

CURVES = (
    "summary/training.csv",
    "summary/reliability.csv",
    "robustness",
)  # of plots/: what metrics don't hold, without images
SPLIT = ["id", "label", "split", "fold", "patient", "group", "near", "reference", "transform"]  # columns, where known
PACKAGE = "package"
COMPARED = 200  # validation images on which a compact network is compared with its original
PART = re.compile(r"(<!-- ([a-z-]+): begin [^\n]*-->\n).*?(<!-- \2: end -->)", re.DOTALL)


def publish(name: str, root: Path = Path()) -> Path:
    """Copy the run in `root` to results/NAME. Raises UserError for an unfinished run or a name that can't be used."""
    check_name(name)
    for needed in (FILE, DETAILS / "summary.json", SPLITS / dataset.INDEX_FILE):
        if not (root / needed).is_file():
            raise UserError(f"{needed} does not exist: run `dvc repro` first")
    target = root / RESULTS / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copy(root / FILE, target)
    networks = set(read_json(root / DETAILS / "summary.json")["models"])
    shutil.copytree(root / DETAILS, target / "metrics", ignore=_other_networks(networks))
    for curve in (root / PLOTS / file for file in CURVES):
        if curve.is_dir():
            shutil.copytree(curve, target / "plots" / curve.name, ignore=_other_networks(networks))
        elif curve.is_file():
            (target / "plots").mkdir(exist_ok=True)
            shutil.copy(curve, target / "plots")
    frame = dataset.read_index(root / SPLITS)
    frame[[column for column in SPLIT if column in frame]].to_csv(target / "split.csv", index=False)
    _write_card(target)
    return target


def _write_card(target: Path) -> None:
    """Write the model card under the published name, not that of a folder on one's machine.

    A run of local images that is named after a source, alone or before a hyphen (kaggle-official), is of that source.
    """
    run, content = params.load(target / FILE), metrics.collect(target / "metrics")
    prefix = target.name.partition("-")[0]
    local = run.data.source == "local"
    source = prefix if local and prefix in model_card.REFERENCE_STANDARD else run.data.source
    named = run.model_copy(update={"data": run.data.model_copy(update={"source": source})})
    content["summary"]["dataset"] = target.name
    (target / model_card.MARKDOWN).write_text(model_card.markdown(named, content), encoding="utf-8")


def _other_networks(networks: set[str]) -> Callable[[str, list[str]], set[str]]:
    """Return what `shutil.copytree` must ignore: files that an earlier run left of networks that this one lacks."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        per_network = Path(folder).name in metrics.OF_A_NETWORK
        return {name for name in names if per_network and Path(name).stem not in networks}

    return ignored


def publish_package(target: Path, root: Path = Path()) -> str:
    """Write a small package to target/package and return its network. Raises UserError when none is small enough."""
    package = Package(root / SERVICE)
    candidates = read_json(root / DETAILS / "summary.json")["decided_by"]
    good = [name for name, row in candidates.items() if row["among_the_best"] and name != package.default]
    pixels = dataset.read(root / SPLITS, package.classes).part("val").pixels[:COMPARED]
    refusals = []
    for name in (package.default, *sorted(good, key=lambda name: candidates[name]["size_mb"])):
        try:
            compact.write(package.folder, target / PACKAGE, name, pixels)
        except UserError as error:
            refusals.append(str(error))
            continue
        about = target / PACKAGE / ABOUT
        # Users of the package know the published run, not what its data is called on the machine that made it.
        write_json(read_json(about) | {"dataset": target.name}, about)
        return name
    raise UserError("; ".join(refusals))


def check_name(name: str) -> None:
    """Raise UserError for a name that can't be a folder under results/."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise UserError(f"{name!r} can't name a published run: use small letters, digits and hyphens")


def fill_pages(root: Path = Path()) -> list[Path]:
    """Render the marked parts of README.md and docs/ from results/; return the pages that have any."""
    content = {"results": _read(root / RESULTS)}
    pages = [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.is_file()]
    marked = [path for path in pages if PART.search(path.read_text(encoding="utf-8"))]
    for path in marked:
        path.write_text(fill(path.read_text(encoding="utf-8"), content), encoding="utf-8")
    return marked


def fill(text: str, content: dict[str, Any]) -> str:
    """Replace each part between markers by what its template makes of `content`."""
    return PART.sub(lambda part: f"{part[1]}\n{render(content, f'published/{part[2]}.md').strip()}\n\n{part[3]}", text)


def _read(folder: Path) -> dict[str, Any]:
    """Return the JSON and CSV files below a folder as {name: content}, nested as the folders are."""
    content: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != PACKAGE:
            content[path.name] = _read(path)
        elif path.suffix == ".json":
            content[path.stem] = read_json(path)
        elif path.suffix == ".csv":
            content[path.stem] = pd.read_csv(path)
    return content


def main() -> None:
    parser = Parser("mri.commands.publish", __doc__)
    parser.add_argument("name", nargs="?", help="the folder under results/, for example kaggle")
    parser.add_argument("--package", action="store_true", help=f"publish a network too, in {compact.LIMIT_MB:g} MB")
    arguments = parser.parse_args()
    if arguments.name:
        target = publish(arguments.name)
        print(f"published in {target}")
        if arguments.package:
            print(f"with {publish_package(target)} in {target / PACKAGE}")
    print("filled: " + ", ".join(map(str, fill_pages())))


if __name__ == "__main__":
    guarded(main)
