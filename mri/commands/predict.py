"""Classify every image in a folder with the packaged networks, into one table.

    python -m mri.commands.predict FOLDER --out predictions.csv

The networks and functions are the service's, so the table says what the service would answer. One row per file:
path, label, the probability of each class, the prediction set, abstain and reasons, the model, its version, the data it
was trained on; a file that can't be read has an error instead and is named on stderr. The table is whole either way;
the exit code is 1 when a file could not be read.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mri.base.cli import Parser, guarded
from mri.base.errors import UserError
from mri.base.paths import SERVICE
from mri.data import images
from mri.inference.package import BATCH, Network, Opinion, Package


def predict(folder: Path, out: Path, package: Package, model: str = "") -> tuple[int, int]:
    """Write the table of all images below `folder` to `out`; returns how many were read and how many could not be.

    Raises UserError when there is nothing to read or nowhere to write, and for an unknown model.
    """
    network = package.network(model)
    files = find(folder)
    failed = 0
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, _columns(package), restval="")
            table.writeheader()
            for row in tqdm(_rows(files, folder, network, package), total=len(files), unit="image", disable=None):
                table.writerow(row)
                if "error" in row:
                    failed += 1
                    tqdm.write(f"{row['path']}: {row['error']}", file=sys.stderr)
    except OSError as error:
        raise UserError(f"{out} can't be written ({error.strerror})") from None
    return len(files) - failed, failed


def find(folder: Path) -> list[Path]:
    """The files below `folder` whose names end as images' do, in alphabetical order. Raises UserError for none."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds images")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(images.SUFFIXES))
    if not files:
        raise UserError(f"{folder} holds no image ({', '.join(images.SUFFIXES)})")
    return files


def _columns(package: Package) -> list[str]:
    said = ["label", *(f"p_{name}" for name in package.classes), "set", "abstain", "reasons"]
    return ["path", *said, "model", "model_version", "dataset", "data_version", "synthetic", "error"]


def _rows(files: list[Path], folder: Path, network: Network, package: Package) -> Iterator[dict[str, Any]]:
    """One row per file, in order; as many as go through the network together are read at a time."""
    for start in range(0, len(files), BATCH):
        read = [_read(path, network.size) for path in files[start : start + BATCH]]
        good = [pixels for pixels in read if isinstance(pixels, np.ndarray)]
        opinions = iter(network.opinions(np.stack(good), features=False) if good else [])
        for path, found in zip(files[start : start + BATCH], read, strict=True):
            said = _said(next(opinions), package) if isinstance(found, np.ndarray) else {"error": str(found)}
            yield {"path": path.relative_to(folder).as_posix(), **said}


def _read(path: Path, size: int) -> np.ndarray | images.ImageError:
    """What the network sees of a file, uint8 (size, size), or why it can't."""
    try:
        return images.prepare(images.read(path, path.name), size)
    except images.ImageError as error:
        return error


def _said(opinion: Opinion, package: Package) -> dict[str, Any]:
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


def main(argv: list[str] | None = None) -> None:
    parser = Parser("mri.commands.predict", __doc__)
    parser.add_argument("folder", type=Path, help="where the images are: PNG, JPEG, DICOM, NIfTI")
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="the table (default: %(default)s)")
    parser.add_argument("--model", default="", help="which network (default: the winner)")
    parser.add_argument("--service", type=Path, default=SERVICE, help="the package (default: %(default)s)")
    arguments = parser.parse_args(argv)
    good, bad = predict(arguments.folder, arguments.out, Package(arguments.service), arguments.model)
    print(f"{good} images classified, {bad} could not be read: {arguments.out}")
    print("Research software, not a medical device: not for diagnosis.")
    if bad:
        sys.exit(1)


if __name__ == "__main__":
    guarded(main)
