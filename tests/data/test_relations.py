"""Related, contradictory and leaked images according to the audit, on tiny handmade indexes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mri.base.params import AuditOptions
from mri.data import images, matching
from mri.data.relations import (
    across,
    calibration,
    content_hash,
    contradictions,
    leakage,
    neighbours,
    relations,
    resolve_labels,
    summarise,
)

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]


def table(ids: str, **columns) -> pd.DataFrame:
    """Return an index with one-letter ids; columns not given are empty."""
    given = {name: list(values) for name, values in columns.items()}
    empty = dict.fromkeys(("path", "official_split", "patient", "group", "mask", "label"), "")
    return pd.DataFrame({"id": list(ids), **empty} | given)


def pairs(*rows: tuple[int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["a", "b", "correlation"])


def related(frame: pd.DataFrame, *rows: tuple[int, int, float], hashes: str | None = None) -> pd.DataFrame:
    return relations(frame, list(hashes or frame["id"]), pairs(*rows), near=0.98)


def test_content_hash_tells_pixels_and_shape_apart():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert content_hash(image) == content_hash(np.asfortranarray(image))
    assert len({content_hash(x) for x in (image, image.reshape(4, 3), image.T, image + 1)}) == 4


def test_relations_are_carried_on_and_named_by_their_first_id():
    groups = related(table("dcba"), (0, 1, 0.99), (1, 3, 0.985))
    assert groups["exact"].tolist() == list("dcba")
    assert groups["near"].tolist() == ["a", "a", "b", "a"]
    assert groups["group"].tolist() == ["a", "a", "b", "a"]


def test_equal_pixels_make_exact_duplicates_which_are_near_ones_too():
    groups = related(table("abcd"), hashes="xyzx")
    assert groups["exact"].tolist() == groups["near"].tolist() == groups["group"].tolist() == ["a", "b", "c", "a"]


def test_similar_images_are_grouped_unless_both_patients_are_known():
    frame = table("abcde", patient=["p", "q", "", "", "p"])
    groups = related(frame, (0, 1, 0.95), (2, 3, 0.95))
    assert groups["near"].tolist() == list("abcde")
    assert groups["group"].tolist() == ["a", "b", "c", "c", "a"]
    assert related(frame, (1, 2, 0.95))["group"].tolist() == ["a", "b", "b", "d", "a"]


def test_copies_join_even_patients_that_are_said_to_differ():
    groups = related(table("abcd", patient=["p", "q", "p", "q"]), (0, 1, 0.99))
    assert groups["group"].tolist() == ["a"] * 4


def test_groups_of_the_source_join_images():
    assert related(table("abc", group=["v", "", "v"]))["group"].tolist() == ["a", "b", "a"]


@settings(max_examples=50)
@given(data=st.data())
def test_relations_do_not_depend_on_the_order_of_rows(data):
    count = data.draw(st.integers(1, 12))
    row = st.integers(0, count - 1)
    links = data.draw(st.lists(st.tuples(row, row, st.floats(0.93, 1)), max_size=12))
    patients = data.draw(st.lists(st.sampled_from(["", "p", "q"]), min_size=count, max_size=count))
    order = data.draw(st.permutations(range(count)))
    frame = table("abcdefghijkl"[:count], patient=patients)
    place = {old: new for new, old in enumerate(order)}
    shuffled = related(frame.iloc[order], *((place[a], place[b], value) for a, b, value in links))
    expected = related(frame, *links)
    assert shuffled.to_numpy().tolist() == expected.iloc[order].to_numpy().tolist()
    for finer, coarser in (("exact", "near"), ("near", "group")):
        assert (expected.groupby(finer)[coarser].nunique() == 1).all()


def test_contradictions_are_found_among_copies_and_against_the_reference():
    frame = table("abcd", label=["glioma", "meningioma", "glioma", "pituitary"])
    assert contradictions(frame, related(frame, (0, 1, 0.99)))["id"].tolist() == ["a", "b"]
    matched = frame.assign(reference_label=["", "", "glioma", "glioma"])
    listed = contradictions(matched, related(frame, (0, 1, 0.99)))
    assert listed["id"].tolist() == ["a", "b", "d"]
    assert listed["labels"].tolist() == ["glioma meningioma", "glioma meningioma", "pituitary"]
    assert listed["reference_label"].tolist() == ["", "", "glioma"]


@pytest.mark.parametrize(
    ("rule", "labels", "dropped"),
    [
        ("keep", ["glioma", "meningioma", "pituitary"], []),
        ("reference", ["glioma", "glioma", "meningioma"], []),
        ("drop", ["glioma", "meningioma", "pituitary"], ["a", "b", "c"]),
    ],
)
def test_contradicted_labels_are_resolved_as_asked(rule, labels, dropped):
    frame = table("abc", label=["glioma", "meningioma", "pituitary"], reference_label=["", "glioma", "meningioma"])
    index, out = resolve_labels(frame, related(frame, (0, 1, 0.99)), rule)
    assert index["label"].tolist() == labels
    assert frame["id"][out].tolist() == dropped


def test_taking_the_reference_s_label_changes_nothing_without_a_reference():
    frame = table("ab", label=["glioma", "meningioma"])
    index, out = resolve_labels(frame, related(frame, (0, 1, 0.99)), "reference")
    assert index["label"].tolist() == ["glioma", "meningioma"] and not out.any()


def test_neighbours_are_similar_without_being_copies():
    frame = table("abcd", patient=["p", "p", "q", ""])
    similar = neighbours(frame, pairs((0, 1, 0.95), (0, 2, 0.94), (1, 3, 0.96), (2, 3, 0.99)), near=0.98)
    assert similar.to_numpy().tolist() == [["a", "b", 0.95, "yes"], ["a", "c", 0.94, "no"], ["b", "d", 0.96, ""]]


def test_calibration_counts_pairs_of_one_slice_above_each_threshold():
    frame = table("abcde", patient=["p", "p", "p", "q", ""], reference=["1", "1", "2", "3", ""])
    matches = pairs((0, 1, 0.99), (0, 2, 0.96), (1, 3, 0.94), (0, 4, 0.97))
    assert calibration(frame, matches, [0.95, 0.9, 0.98, 0.999]) == [
        {"threshold": 0.95, "pairs": 2, "same_slice": 0.5, "same_patient": 1.0, "recall": 1.0},
        {"threshold": 0.9, "pairs": 3, "same_slice": 1 / 3, "same_patient": 2 / 3, "recall": 1.0},
        {"threshold": 0.98, "pairs": 1, "same_slice": 1.0, "same_patient": 1.0, "recall": 1.0},
        {"threshold": 0.999, "pairs": 0, "same_slice": 0.0, "same_patient": 0.0, "recall": 0.0},
    ]


def test_leakage_counts_test_images_with_a_relative_in_training():
    frame = table("abcdef", label=["glioma"] * 3 + ["notumor"] * 3, patient=["p", "", "", "", "", "p"])
    groups = related(frame, (0, 1, 0.99), (2, 3, 0.95), hashes="xxyzwv")
    train = np.array([True, False, True, False, False, False])
    leaks = leakage(frame, groups, train, ~train, CLASSES)
    assert leaks == {
        "n": 4,
        "exact": 0.25,
        "near": 0.25,
        "patient": 0.75,
        "per_class": {
            "glioma": {"n": 1, "exact": 1.0, "near": 1.0, "patient": 1.0},
            "notumor": {"n": 3, "exact": 0.0, "near": 0.0, "patient": 2 / 3},
        },
    }


def test_nothing_leaks_into_no_test_images():
    nobody = np.zeros(2, bool)
    frame = table("ab", label=["glioma", "glioma"])
    assert leakage(frame, related(frame), ~nobody, nobody, CLASSES) == {
        "n": 0,
        "exact": 0.0,
        "near": 0.0,
        "patient": 0.0,
        "per_class": {},
    }


def test_summary_counts_images_groups_conflicts_and_leaks():
    frame = table(
        "abcdef",
        label=["glioma", "glioma", "notumor", "notumor", "glioma", "notumor"],
        patient=["p", "p", "", "", "q", ""],
        official_split=["train", "test", "train", "test", "train", "test"],
    )
    matches = pairs((0, 1, 0.99), (2, 3, 0.95), (0, 4, 0.94), (2, 5, 1.0))
    groups = relations(frame, list("abcdec"), matches, near=0.98)
    frame = frame.assign(split=["train", "", "val", "val", "test", ""], clean=[False] * 4 + [True, False])
    wrong = contradictions(frame.assign(label=frame["label"].where(frame["id"] != "b", "notumor")), groups)
    metrics = summarise(frame, groups, neighbours(frame, matches, 0.98), wrong, CLASSES, {"majority": {}})
    assert metrics["images"] == 6 and metrics["clean"] == 1 and metrics["patients"] == 2
    assert metrics["counts"]["glioma"] == {"train": 1, "val": 0, "test": 1, "unused": 1}
    assert metrics["counts"]["notumor"] == {"train": 0, "val": 2, "test": 0, "unused": 1}
    assert metrics["duplicates"] == {"exact": 1, "near": 2}
    assert metrics["distinct"] == {"exact": 5, "near": 4, "group": 3}
    assert metrics["neighbours"] == {"pairs": 2, "same_patient": 0, "other_patient": 1}
    assert metrics["conflicts"] == {"groups": 1, "reference": 0}
    assert metrics["leakage"]["split"]["patient"] == 0 and metrics["leakage"]["validation"]["n"] == 2
    official = metrics["leakage"]["official"]
    assert (official["n"], official["exact"], official["near"], official["patient"]) == (3, 1 / 3, 2 / 3, 1.0)
    assert metrics["baselines"] == {"majority": {}}


def test_summary_of_a_source_without_a_split_has_no_official_leakage():
    frame = table("ab", label=["glioma", "glioma"], split=["train", "test"], clean=[False, True])
    metrics = summarise(
        frame, related(frame), neighbours(frame, pairs(), 0.98), contradictions(frame, related(frame)), CLASSES, {}
    )
    assert set(metrics["leakage"]) == {"split", "validation"}
    assert metrics["neighbours"]["pairs"] == 0 and metrics["conflicts"] == {"groups": 0, "reference": 0}


OPTIONS = {"size": 160, "cells": 20, "near": 0.98, "similar": 0.93, "conflicts": "reference"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cells": 21}, "size must be a multiple of cells, got 160 and 21"),
        ({"similar": 0.99}, "similar must not exceed near, got 0.99 and 0.98"),
        ({"conflicts": "guess"}, "'keep', 'reference' or 'drop'"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        AuditOptions(**OPTIONS | wrong)


def test_pairs_across_a_split_lie_in_two_parts_of_it():
    parts = pd.DataFrame({"split": ["train", "test", "", "train"]})
    crossing = across(parts, pairs((0, 1, 1.0), (1, 2, 1.0), (0, 3, 1.0), (1, 3, 1.0)), "split")
    assert crossing[["a", "b"]].to_numpy().tolist() == [[0, 1], [1, 3]]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("MRI_KAGGLE"), reason="MRI_KAGGLE names no folder with Training/ and Testing/")
def test_official_kaggle_split_leaks_as_much_as_is_known():
    """Of 1,311 test images 216 are in training with the same pixels and 992 as the same picture."""
    folder = Path(os.environ["MRI_KAGGLE"])
    paths = sorted(path for part in ("Training", "Testing") for path in (folder / part).glob("*/*.jpg"))
    frames = [images.read(path) for path in paths]
    index = (
        table("a")
        .iloc[:0]
        .reindex(range(len(paths)), fill_value="")
        .assign(id=[path.relative_to(folder).as_posix() for path in paths], label=[path.parent.name for path in paths])
    )
    options = AuditOptions(**OPTIONS)
    matches = matching.similar_pairs(
        np.stack([matching.views(frame, options.size) for frame in frames]), options.similar, options.cells
    )
    groups = relations(index, [content_hash(frame) for frame in frames], matches, options.near)
    test = index["id"].str.startswith("Testing").to_numpy()
    leaks = leakage(index, groups, ~test, test, CLASSES)
    assert leaks["exact"] == pytest.approx(216 / 1311, abs=0.01)
    assert leaks["near"] == pytest.approx(992 / 1311, abs=0.01)
    assert groups["near"].nunique() == pytest.approx(3641, rel=0.01)
    expected = {"glioma": 81 / 300, "meningioma": 289 / 306, "notumor": 403 / 405, "pituitary": 219 / 300}
    for name, share in expected.items():
        assert leaks["per_class"][name]["near"] == pytest.approx(share, abs=0.01)
