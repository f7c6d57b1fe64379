"""Describe a dataset before training on it: the tables behind notebooks/exploratory.ipynb.

They are computed from what the split stage wrote: the split dataset, metrics/details/data.json and the files of the
dataset. Columns of an index are those of `mri.data.dataset`. The pictures are in `mri.report.exploration_figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mri.base import params
from mri.base.errors import UserError
from mri.base.files import read_json
from mri.base.params import Params
from mri.base.paths import DATASET, DETAILS, SPLITS
from mri.data import dataset, images, matching
from mri.data.dataset import INDEX_FILE, PARTS, Dataset
from mri.data.properties import file_properties
from mri.report.tables import interval

# Properties of a file that say nothing about its picture, and their names in tables and on axes.
FILE_PROPERTIES = {"width": "width, pixels", "height": "height, pixels", "aspect": "width / height", "kilobytes": "kB"}
INTENSITIES = {"mean": "mean grey level", "std": "standard deviation of grey levels"}


@dataclass(frozen=True)
class Exploration:
    """The dataset that params.yaml selects, as the split stage wrote it.

    metrics: of metrics/details/data.json. contradictions: see `mri.data.relations.contradictions`. copies: every pair
    of images that are one picture, in the columns of `mri.data.matching.similar_pairs`; a and b are rows of the index.
    """

    params: Params
    data: Dataset
    metrics: dict[str, Any]
    contradictions: pd.DataFrame
    copies: pd.DataFrame


def load() -> Exploration:
    """Read what the split stage wrote. Raises UserError that says what to run when it is missing or of another run."""
    run = params.load()
    summary = DETAILS / "data.json"
    for path in (DATASET / INDEX_FILE, SPLITS / INDEX_FILE, summary):
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc repro split` first (`make explore` does)")
    data, metrics = dataset.read(SPLITS, run.data.classes), read_json(summary)
    if metrics["images"] != len(data.index) or run.split.protocol not in metrics["baselines"]:
        raise UserError(f"{summary} is not of this dataset or split: run `dvc repro split` first (`make explore` does)")
    contradictions = pd.read_csv(SPLITS / "contradictions.csv", dtype=str, keep_default_na=False)
    rows = pd.Series(range(len(data.index)), data.index["id"])
    copies = pd.read_csv(SPLITS / "duplicates.csv", dtype={"id_a": str, "id_b": str}, keep_default_na=False)
    copies = copies.assign(a=copies["id_a"].map(rows), b=copies["id_b"].map(rows))
    return Exploration(run, data, metrics, contradictions, copies)


def overview(name: str, index: pd.DataFrame, metrics: dict[str, Any]) -> pd.Series:
    """Describe the dataset in a dozen lines of text. name: as in params.yaml."""
    return pd.Series(
        {
            "dataset": name,
            "images": len(index),
            "unreadable images left out": metrics["skipped"],
            "sources": _listed(index["source"]),
            "different image sizes": len(index[["width", "height"]].drop_duplicates()),
            "planes": _listed(index["plane"]),
            "patients": metrics["patients"] or "not known",
            "images with a tumour mask": int((index["mask_row"] >= 0).sum()),
            "images in the source's own test part": int((index["official_split"] == "test").sum()),
            "pictures, copies counted once": metrics["distinct"]["near"],
            "groups of related images": metrics["distinct"]["group"],
        },
        dtype=object,
    )


def _listed(values: pd.Series) -> str:
    return ", ".join(sorted(set(values) - {""})) or "not known"


def counts(index: pd.DataFrame, classes: Sequence[str], column: str, most: int = 8) -> pd.DataFrame:
    """Count images by class (rows) and by the value of `column`, with sums ("all").

    Parts of the split come in their order, other values the most frequent first; beyond `most` they are "other". An
    empty value is "unused" for the split and otherwise "not known".
    """
    values = index[column].replace("", "unused" if column == "split" else "not known")
    names = list(values.value_counts().sort_index().sort_values(ascending=False, kind="stable").index)
    if len(names) > most:
        values = values.where(values.isin(names[: most - 1]), "other")
        names = [*names[: most - 1], "other"]
    if column == "split":
        names = [name for name in (*PARTS, "unused") if name in names]
    table = pd.crosstab(index["label"], values).reindex(index=classes, columns=names, fill_value=0)
    table["all"] = table.sum(axis=1)
    table.loc["all"] = table.sum()
    return table.rename_axis(index=None, columns=column)


def examples(index: pd.DataFrame, column: str, count: int, seed: int = 0) -> pd.DataFrame:
    """Return at most `count` rows for each value of `column`, at random, no two of them related."""
    shuffled = index.sample(frac=1, random_state=seed).drop_duplicates(["group", column])
    return shuffled.groupby(column).head(count).sort_values([column, "id"], kind="stable")


def measure(folder: Path, index: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Measure every file of `index` below `folder`, as it is stored: what a shortcut could use.

    Returns the index with columns width, height, size (both as text), aspect, mode (how the file stores colour),
    kilobytes, mean and std (grey levels, 0 to 255), and the share of pixels at each grey level, float32 (N, 256).
    """

    def one(path: str) -> tuple[dict[str, Any], np.ndarray]:
        file = folder / path
        pixels = images.read(file)
        properties = file_properties(pixels, images.describe(file)["mode"], file.stat().st_size)
        return properties, np.bincount(pixels.ravel(), minlength=256) / pixels.size

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
        properties, levels = zip(*pool.map(one, index["path"]), strict=True)
    files = pd.DataFrame(list(properties), index=index.index)
    files["kilobytes"] = files.pop("bytes") / 1000
    files["size"] = files["width"].astype(str) + " × " + files["height"].astype(str)
    return index.assign(**files), np.stack(levels).astype(np.float32)


def differences(frame: pd.DataFrame, by: str, names: Sequence[str], columns: dict[str, str]) -> pd.DataFrame:
    """Return the median of each property in each group of images, and how much of it the group explains.

    names: values of column `by`, in the order of the table. columns: property and what to call it, the rows. explained
    is eta squared, the share of a property's variance that lies between the groups: 0 when their means agree, 1 when
    the group alone decides the value.
    """
    table = frame.groupby(by)[list(columns)].median().T.reindex(columns=names)
    table["explained"] = [_eta_squared(frame[column], frame[by]) for column in columns]
    return table.rename(index=columns)


def _eta_squared(values: pd.Series, groups: pd.Series) -> float:
    total = ((values - values.mean()) ** 2).sum()
    between = ((values.groupby(groups).transform("mean") - values.mean()) ** 2).sum()
    return float(between / total) if total and groups.nunique() > 1 else 0.0


def patients(index: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Count for each class its images, those of known patients, these patients, and images per patient.

    The last two columns are 0 for a class without a known patient.
    """
    known = index[index["patient"] != ""]
    per_patient = known.groupby(["label", "patient"]).size().groupby("label")
    columns = {
        "images": index["label"].value_counts(),
        "of known patients": known["label"].value_counts(),
        "patients": per_patient.size(),
        "images per patient, median": per_patient.median(),
        "at most": per_patient.max(),
    }
    return pd.DataFrame(columns).reindex(classes).fillna(0).rename_axis(None)


def lesion_sizes(data: Dataset) -> pd.DataFrame:
    """Return label and area_percent, the share of the prepared picture covered by the tumour, of images with a mask."""
    masked = data.index[data.index["mask_row"] >= 0].reset_index(drop=True)
    return masked[["label"]].assign(area_percent=100 * data.masks_of(masked).mean(axis=(1, 2)))


def duplicates(index: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Count for each class its images, its pictures (copies counted once), how many of these occur twice or more, and
    how often the most frequent one occurs.

    A picture that is in two classes counts in both.
    """
    times = index.groupby(["label", "near"]).size()
    columns = {
        "images": index["label"].value_counts(),
        "pictures": times.groupby("label").size(),
        "of which repeated": (times > 1).groupby("label").sum(),
        "one picture, at most": times.groupby("label").max(),
    }
    return pd.DataFrame(columns).reindex(classes).rename_axis(None)


def copy_counts(metrics: dict[str, Any]) -> pd.DataFrame:
    """Count groups of two or more copies, and the pictures when each group counts once: exact and near copies."""
    kinds = list(metrics["duplicates"])
    pictures = [metrics["distinct"][kind] for kind in kinds]
    return pd.DataFrame({"groups of copies": metrics["duplicates"].values(), "pictures": pictures}, index=kinds)


def transforms(pairs: pd.DataFrame) -> pd.DataFrame:
    """Count pairs, in one row: all, and by what turns one image into the other (`mri.data.matching.TRANSFORMS`)."""
    numbers = pairs["transform"].value_counts().reindex(matching.TRANSFORMS, fill_value=0)
    return pd.DataFrame({"all": len(pairs), **numbers}, index=["pairs"])


def as_labelled(index: pd.DataFrame, contradictions: pd.DataFrame) -> pd.DataFrame:
    """Return `index` with the labels that the source gave, before contradictions were resolved."""
    given = contradictions.set_index("id")["label"]
    return index.assign(label=index["id"].map(given).fillna(index["label"]))


def leakage(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return the shares of images that have a relative in the part they are compared with, one row per comparison.

    Rows and columns: see `mri.data.relations.summarise` and `mri.data.relations.leakage`.
    """
    table = pd.DataFrame.from_dict(metrics["leakage"], orient="index", columns=["n", "exact", "near", "patient"])
    names = {"split": "test part in use", "validation": "validation part", "official": "the source's own test part"}
    return table.rename(index=names, columns={"n": "images"})


def baselines(metrics: dict[str, Any], protocol: str) -> pd.DataFrame:
    """Return the trivial classifiers' scores on the test images of `protocol`: text, in per cent, with intervals.

    Missed tumours are left out where they are unknown.
    """
    measures = {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro-F1",
        "missed_tumour_rate": "missed tumours",
    }
    rows = {
        name.replace("_", " "): {title: interval(scores[key]) for key, title in measures.items() if key in scores}
        for name, scores in metrics["baselines"][protocol].items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def recalls(metrics: dict[str, Any], protocol: str) -> pd.DataFrame:
    """Return the share of each class (columns) that each trivial classifier (rows) recognises."""
    rows = {
        name.replace("_", " "): {label: row["recall"] for label, row in scores["per_class"].items()}
        for name, scores in metrics["baselines"][protocol].items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")
