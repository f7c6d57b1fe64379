"""Relations between images of a dataset, and how much leaks through them from a training part into a test part.

Four relations, each coarser than the one before, all symmetric and transitive (what is related to one picture of a
group is related to the whole group):

- exact: equal decoded pixels;
- near: the same picture saved again, mirrored, turned, brightened or with another border (NCC of at least
  `near`, see `mri.data.matching`);
- similar: NCC of at least `similar`, which neighbouring slices and filtered copies reach. For an image of an unknown
  patient it means "from one source picture or one scan"; between two images of known patients, the patients decide;
- group: near, similar, one patient or one group of the source. A group may not be divided between parts of a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mri.data.dataset import PARTS

RELATIONS = ("exact", "near", "group")


def content_hash(pixels: np.ndarray) -> str:
    """Return the SHA-256 of decoded pixels, uint8 (H, W), and their shape; the file format has no effect."""
    return hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def relations(index: pd.DataFrame, hashes: Sequence[str], pairs: pd.DataFrame, near: float) -> pd.DataFrame:
    """Return the groups of related images: columns `RELATIONS`, one row per row of `index`.

    index: columns of `mri.data.dataset`; id, patient and group are read. hashes: `content_hash` per image. pairs: from
    `mri.data.matching.similar_pairs`, row numbers of `index`, down to the threshold `similar`.
    Images are related when their entries are equal. An entry is the smallest id of the related images, so it depends
    neither on the order of rows nor on other images.
    """
    ends = pairs[["a", "b"]].to_numpy(np.int64).reshape(-1, 2)
    close = pairs["correlation"].to_numpy(np.float64) >= near
    unknown = (index["patient"] == "").to_numpy()
    same_scan = close | unknown[ends].any(axis=1)
    exact = _equal(pd.Series(hashes))
    one_picture = np.concatenate([exact, ends[close]])
    one_group = np.concatenate([exact, ends[same_scan], _equal(index["patient"]), _equal(index["group"])])
    links = dict(zip(RELATIONS, (exact, one_picture, one_group), strict=True))
    return pd.DataFrame({name: _name_components(index["id"], pairs) for name, pairs in links.items()})


def _equal(values: pd.Series) -> np.ndarray:
    """Return (K, 2) row numbers that link every value except "" to its first occurrence."""
    values = values.reset_index(drop=True)
    rows = np.flatnonzero(values != "")
    first = pd.Series(rows).groupby(values.iloc[rows].to_numpy()).transform("min").to_numpy()
    return np.column_stack([first, rows]).astype(np.int64)


def _name_components(ids: pd.Series, links: np.ndarray) -> np.ndarray:
    """Return for each row the smallest id in its connected component. links: (K, 2) row numbers."""
    count = len(ids)
    graph = coo_matrix((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    return pd.Series(ids.to_numpy()).groupby(component).transform("min").to_numpy()


def contradictions(index: pd.DataFrame, related: pd.DataFrame) -> pd.DataFrame:
    """List the images whose label is contradicted, by a copy in the dataset or by the reference dataset.

    Columns: id, path, label, near (the group of copies), labels (all labels of that group) and reference_label ("" when
    the dataset was not matched, see `mri.data.matching.inherit`).
    """
    table = index[["id", "path", "label"]].assign(near=related["near"].to_numpy(), reference_label="")
    if "reference_label" in index:
        table["reference_label"] = index["reference_label"].to_numpy()
    labels = table.groupby("near")["label"].agg(lambda group: " ".join(sorted(set(group))))
    table.insert(4, "labels", table["near"].map(labels))
    wrong = _contradicts_reference(table)
    return table[wrong | (table["labels"] != table["label"])].reset_index(drop=True)


def _contradicts_reference(index: pd.DataFrame) -> pd.Series:
    if "reference_label" not in index:
        return pd.Series(False, index.index)
    return (index["reference_label"] != "") & (index["reference_label"] != index["label"])


def resolve_labels(index: pd.DataFrame, related: pd.DataFrame, rule: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Resolve contradicted labels by `AuditOptions.conflicts`; return the index, and bool (N,), the rows to drop.

    "reference" replaces a label by the reference's where there is one and changes nothing else; "drop" drops every
    image that `contradictions` lists.
    """
    none = np.zeros(len(index), bool)
    if rule == "drop":
        return index, index["id"].isin(contradictions(index, related)["id"]).to_numpy()
    if rule == "reference":
        wrong = _contradicts_reference(index)
        return index.assign(label=index["label"].mask(wrong, index.get("reference_label"))), none
    return index, none


def neighbours(index: pd.DataFrame, pairs: pd.DataFrame, near: float) -> pd.DataFrame:
    """List the pairs that are similar but not copies, mostly neighbouring slices.

    Columns: id_a, id_b, correlation and same_patient ("yes", "no", or "" when either patient is unknown).
    """
    similar = pairs[pairs["correlation"] < near]
    a, b = (index.iloc[similar[end].to_numpy(np.int64)].reset_index(drop=True) for end in ("a", "b"))
    known = (a["patient"] != "") & (b["patient"] != "")
    same = np.where(known, np.where(a["patient"] == b["patient"], "yes", "no"), "")
    correlation = similar["correlation"].to_numpy(np.float64)
    return pd.DataFrame({"id_a": a["id"], "id_b": b["id"], "correlation": correlation, "same_patient": same})


def across(index: pd.DataFrame, pairs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the pairs whose images differ in `column`, such as the part of a split; "" counts as no value."""
    a, b = (index[column].to_numpy()[pairs[end].to_numpy(np.int64)] for end in ("a", "b"))
    return pairs[(a != b) & (a != "") & (b != "")]


def calibration(index: pd.DataFrame, pairs: pd.DataFrame, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """Measure how well NCC separates copies of one slice from other pictures, on images with a known reference.

    For each threshold, of the pairs at or above it: pairs (their number), same_slice and same_patient (shares), and
    recall, the share of all pairs of one slice that are among them. `pairs` must include all down to the lowest
    threshold. A threshold identifies copies perfectly when same_slice and recall are both 1.
    """
    known = (index["reference"] != "").to_numpy()
    slices, patients = index["reference"].to_numpy(), index["patient"].to_numpy()
    copies = pd.Series(slices[known]).value_counts().to_numpy()
    total = int((copies * (copies - 1) // 2).sum())
    a, b = (pairs[end].to_numpy(np.int64) for end in ("a", "b"))
    usable = known[a] & known[b]
    a, b, correlation = a[usable], b[usable], pairs["correlation"].to_numpy(np.float64)[usable]
    rows = []
    for threshold in thresholds:
        i, j = a[correlation >= threshold], b[correlation >= threshold]
        same = slices[i] == slices[j]
        rows.append(
            {
                "threshold": float(threshold),
                "pairs": len(i),
                "same_slice": _share(same),
                "same_patient": _share(patients[i] == patients[j]),
                "recall": float(same.sum() / total) if total else 0.0,
            }
        )
    return rows


def leakage(
    index: pd.DataFrame, related: pd.DataFrame, train: np.ndarray, test: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Return the shares of test images that are related to a training image: lower is better, 0 is no leakage.

    train, test: bool (N,). Returns n (test images), exact (the same pixels are in training), near (the same picture,
    mirrored or not), patient (any image of the same patient, source picture or near-duplicate) and per_class, the same
    for each class that occurs.
    """
    seen = {
        name: related[column].isin(related.loc[train, column]).to_numpy()
        for name, column in zip(("exact", "near", "patient"), RELATIONS, strict=True)
    }

    def shares(rows: np.ndarray) -> dict[str, Any]:
        return {"n": int(rows.sum()), **{name: _share(values[rows]) for name, values in seen.items()}}

    labels = index["label"].to_numpy()
    per_class = {name: shares(test & (labels == name)) for name in classes if (labels[test] == name).any()}
    return {**shares(test), "per_class": per_class}


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def summarise(
    index: pd.DataFrame,
    related: pd.DataFrame,
    similar: pd.DataFrame,
    contradicted: pd.DataFrame,
    classes: Sequence[str],
    baselines: dict[str, Any],
) -> dict[str, Any]:
    """Return the content of metrics/details/data.json.

    index: from `mri.data.splits.split`. related: from `relations`. similar: from `neighbours`. contradicted: from
    `contradictions`, before labels were resolved. baselines: from `mri.evaluation.trivial_classifiers.score`, by
    protocol. `duplicates` counts groups of two or more images, `distinct` the groups of any size.
    `leakage` holds `split` (the test part in use against training and validation), `validation` (against training) and,
    where the source ships a split of its own, `official` (its test images against its training images).
    """
    part, official = index["split"].to_numpy(), index["official_split"].to_numpy()
    leaks = {
        "split": leakage(index, related, np.isin(part, PARTS[:2]), part == "test", classes),
        "validation": leakage(index, related, part == "train", part == "val", classes),
    }
    if (official == "test").any():
        leaks["official"] = leakage(index, related, official == "train", official == "test", classes)
    return {
        "images": len(index),
        "counts": {name: _counts(part[index["label"] == name]) for name in classes},
        "clean": int(index["clean"].sum()),
        "patients": int(index.loc[index["patient"] != "", "patient"].nunique()),
        "duplicates": {name: int((related[name].value_counts() > 1).sum()) for name in ("exact", "near")},
        "distinct": {name: int(related[name].nunique()) for name in RELATIONS},
        "neighbours": {
            "pairs": len(similar),
            "same_patient": int((similar["same_patient"] == "yes").sum()),
            "other_patient": int((similar["same_patient"] == "no").sum()),
        },
        "conflicts": {
            "groups": int(contradicted.loc[contradicted["labels"].str.contains(" "), "near"].nunique()),
            "reference": int(_contradicts_reference(contradicted).sum()),
        },
        "leakage": leaks,
        "baselines": baselines,
    }


def _counts(part: np.ndarray) -> dict[str, int]:
    """Count the images of each part, and the unused ones."""
    return {**{name: int((part == name).sum()) for name in PARTS}, "unused": int((part == "").sum())}
