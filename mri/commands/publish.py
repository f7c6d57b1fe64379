"""Publish this commit's run as results/NAME, and draw the README's table from what is published there.

    python -m mri.commands.publish kaggle
    python -m mri.commands.publish kaggle --package      # with a network that `make serve MODEL=kaggle` serves

copies params.yaml, dvc.lock, metrics/details and plots/ (of real scans without plots/sheets, whose images are not ours
to publish), writes the model card under the published name, and split.csv (which image was in which part, and what it
was found to be a copy of), so that others can repeat or check the split, and rewrites the parts of README.md between
its markers. The network is the winner, or where that is too large (`mri.export.compact`) the smallest of those that
can't be told from the best.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mri.base import params
from mri.base.cli import Parser, guarded
from mri.base.errors import UserError
from mri.base.files import read_json, write_json
from mri.base.paths import DETAILS, PLOTS, RESULTS, SERVICE, SPLITS
from mri.data import dataset
from mri.export import compact
from mri.inference.package import ABOUT, Package
from mri.report import metrics, model_card
from mri.report.tables import headline, interval, networks

FILES, FOLDERS = ("params.yaml", "dvc.lock"), {DETAILS: "metrics", PLOTS: "plots"}
PER_NETWORK = {
    "train",
    "evaluate",
    "robustness",
    "explain",
    "export",
    "benchmark",
    "history",
}  # folders of one file per network
SPLIT = ["id", "label", "split", "fold", "patient", "group", "near", "reference", "transform"]  # where known
PACKAGE = "package"
SEEN = 200  # validation images on which a compact network is compared with the one it was made of
BEGIN, END = "<!-- {}: begin (make publish writes this part) -->", "<!-- {}: end -->"  # around a part of the README


def publish(name: str, root: Path = Path()) -> Path:
    """Copy the run in `root` to results/NAME. Raises UserError when the pipeline hasn't run or the name is no name."""
    check_name(name)
    needed = (*FILES, f"{DETAILS}/summary.json", f"{SPLITS}/{dataset.INDEX_FILE}")
    missing = [part for part in needed if not (root / part).is_file()]
    if missing:
        raise UserError(f"{missing[0]} does not exist: run `dvc repro` first")
    target = root / RESULTS / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in FILES:
        shutil.copy(root / file, target)
    summary = read_json(root / DETAILS / "summary.json")
    for folder, name in FOLDERS.items():
        shutil.copytree(root / folder, target / name, ignore=_not_published(summary))
    frame = dataset.read_index(root / SPLITS)
    frame[[name for name in SPLIT if name in frame]].to_csv(target / "split.csv", index=False)
    _write_card(target)
    return target


def _write_card(target: Path) -> None:
    """The model card of a published run: it has the run's published name, not that of a folder on one's machine.

    A run named after a source, alone or before a hyphen (kaggle-official), is of that source's images.
    """
    run, content = params.load(target / "params.yaml"), metrics.collect(target / "metrics")
    own, name = run.data.source == "local", target.name
    images = name.partition("-")[0]
    source = images if own and images in model_card.REFERENCE_STANDARD else run.data.source
    named = run.model_copy(update={"data": run.data.model_copy(update={"source": source})})
    content["summary"]["dataset"] = name
    (target / model_card.MARKDOWN).write_text(model_card.markdown(named, content), encoding="utf-8")


def _not_published(summary: dict[str, Any]) -> Callable[[str, list[str]], set[str]]:
    """What `shutil.copytree` leaves out: pictures of real scans, and what an earlier run left of other networks."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        per_network = Path(folder).name in PER_NETWORK
        left = {name for name in names if per_network and Path(name).stem not in summary["models"]}
        return left if summary["dataset"] == "phantom" else left | ({"sheets"} & set(names))

    return ignored


def publish_package(target: Path, root: Path = Path()) -> str:
    """Write a small package to target/package; the name of its network. Raises UserError when none is small enough."""
    package = Package(root / SERVICE)
    chosen = read_json(root / DETAILS / "summary.json")["decided_by"]
    good = [name for name, row in chosen.items() if row["among_the_best"] and name != package.default]
    val = dataset.read(root / SPLITS, package.classes).part("val").pixels[:SEEN]
    refused = []
    for name in (package.default, *sorted(good, key=lambda name: chosen[name]["size_mb"])):
        refusal = _write_package(package.folder, target / PACKAGE, name, val)
        if not refusal:
            about = target / PACKAGE / ABOUT
            # Whoever serves it knows the published run, not what its data is called on the machine that made it.
            write_json(read_json(about) | {"dataset": target.name}, about)
            return name
        refused.append(refusal)
    raise UserError("; ".join(refused))


def _write_package(package: Path, target: Path, name: str, pixels: np.ndarray) -> str:
    """Why the network can't be published; "" once it is."""
    try:
        compact.write(package, target, name, pixels)
    except UserError as error:
        return str(error)
    return ""


def check_name(name: str) -> None:
    """Raises UserError for what can't be a folder's name under results/."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise UserError(f"{name!r} can't name a published run: use small letters, digits and hyphens")


def tables(results: Path) -> str:
    """Markdown: one table per published run, in alphabetical order."""
    parts = [networks(read_json(run / "metrics/summary.json"), run.name, _leakage(run)) for run in _runs(results)]
    folds = sorted(results.glob("*/folds.json"))
    return "\n\n".join([*parts, *([_folds_table(folds)] if folds else [])])


def headlines(results: Path) -> str:
    """Markdown: each published run in one sentence."""
    sentences = []
    for run in _runs(results):
        summary = read_json(run / "metrics/summary.json")
        evaluation = read_json(run / f"metrics/evaluate/{summary['winner']}.json")
        sentences.append(headline(summary, evaluation, run.name, _leakage(run)))
    return "\n\n".join(sentences)


def _leakage(run: Path) -> dict[str, Any]:
    """What the test images of a published run share with its training images."""
    return read_json(run / "metrics/data.json")["leakage"]["split"]


def _runs(results: Path) -> list[Path]:
    return sorted(path.parents[1] for path in results.glob("*/metrics/summary.json"))


def _folds_table(paths: list[Path]) -> str:
    lines = [
        "**Cross-validation** (every image scored by the network trained without its fold)",
        "",
        "| | network | split | folds | images | accuracy | balanced accuracy | macro-F1 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for path in paths:
        run = read_json(path)
        scores = [interval(run["pooled"][score]) for score in ("accuracy", "balanced_accuracy", "macro_f1")]
        who = [path.parent.name, run["architecture"], run["protocol"], str(run["folds"]), str(run["pooled"]["n"])]
        lines.append(f"| {' | '.join([*who, *scores])} |")
    return "\n".join(lines)


def update_readme(readme: Path, results: Path) -> None:
    """Replace what stands between the markers "headline" and "results". Raises UserError when they are missing."""
    text = readme.read_text(encoding="utf-8")
    for name, part in (("headline", headlines(results)), ("results", tables(results))):
        begin, end = BEGIN.format(name), END.format(name)
        if begin not in text or end not in text:
            raise UserError(f"{readme} has lost the lines {begin} and {end}: put them back where the {name} belongs")
        before, after = text.split(begin)[0], text.split(end)[1]
        text = f"{before}{begin}\n\n{part}\n\n{end}{after}"
    readme.write_text(text, encoding="utf-8")


def main() -> None:
    parser = Parser("mri.commands.publish", __doc__)
    parser.add_argument("name", help="the folder under results/, for example kaggle")
    parser.add_argument("--package", action="store_true", help=f"publish a network too, in {compact.LIMIT_MB:g} MB")
    arguments = parser.parse_args()
    target = publish(arguments.name)
    update_readme(Path("README.md"), RESULTS)
    print(f"published in {target}")
    if arguments.package:
        print(f"with {publish_package(target)} in {target / PACKAGE}")


if __name__ == "__main__":
    guarded(main)
