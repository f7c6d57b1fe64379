"""Scores on images from elsewhere: shares of one class each, pooled only as a mean over cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mri.base.errors import UserError
from mri.evaluation.external import check, flat, summarise


def images(
    label: str, source: str, predicted: list[str], contrast: str = "T1+C", answered: bool = True, **columns
) -> pd.DataFrame:
    """Return a row per prediction, each of a patient of its own."""
    number = np.arange(len(predicted)).astype(str)
    fixed = {"label": label, "source": source, "contrast": contrast, "answered": answered, "refused": False}
    frame = pd.DataFrame({"predicted": predicted, "pointing_game": np.nan, "rma": np.nan, **fixed, **columns})
    return frame.assign(group=[f"{label}-{source}-{contrast}-{n}" for n in number])


def scored(*parts: pd.DataFrame) -> dict:
    return summarise(pd.concat(parts, ignore_index=True), resamples=200, seed=0)


def part(scores: dict, by: str, **names: str) -> dict:
    [row] = [row for row in scores["parts"] if row["by"] == by and names.items() <= row.items()]
    return row


GOOD = images("glioma", "here", ["glioma"] * 10)
BAD = images("glioma", "there", ["notumor"] * 30 + ["meningioma"] * 10, "T2", answered=False)
FREE = images("notumor", "there", ["notumor"] * 15 + ["glioma"] * 5, "T2", refused=[True] * 10 + [False] * 10)


def test_each_share_is_of_the_images_of_one_class():
    scores = scored(GOOD, BAD, FREE)
    glioma = part(scores, "class", label="glioma")
    assert (glioma["n"], glioma["groups"]) == (50, 50)
    assert glioma["recall"]["value"] == 0.2 and glioma["called_no_tumour"]["value"] == 0.6
    assert glioma["answered"]["value"] == 0.2 and glioma["right_when_answered"]["value"] == 1
    assert part(scores, "class and source", label="glioma", source="there")["recall"]["value"] == 0
    assert part(scores, "class and source", label="glioma", source="there")["right_when_answered"] is None
    assert part(scores, "class and contrast", label="glioma", contrast="T1+C")["recall"]["value"] == 1
    free = part(scores, "class", label="notumor")
    assert free["called_no_tumour"] is None and free["refused"]["value"] == 0.5


def test_nothing_is_pooled_over_classes_but_the_mean_over_cells_of_enough_images():
    few = images("pituitary", "here", ["glioma"] * 9)
    scores = scored(GOOD, BAD, FREE, few)
    cells = scores["cells"]
    assert cells["cells"] == 3 and cells["left_out"] == {"cells": 1, "images": 9}
    assert cells["recall"]["value"] == pytest.approx((1 + 0 + 0.75) / 3)
    assert cells["called_no_tumour"]["value"] == pytest.approx((0 + 0.75) / 2)
    assert cells["recall"]["low"] < cells["recall"]["value"] < cells["recall"]["high"]
    assert {row["by"] for row in scores["parts"]} == {"class", "class and source", "class and contrast"}
    assert all("label" in row for row in scores["parts"])
    assert scored(few)["cells"] is None


def test_images_of_one_patient_count_as_one_group():
    many = images("glioma", "here", ["glioma"] * 5 + ["notumor"] * 15)
    few = many.assign(group=[f"patient {number // 5}" for number in range(20)])
    rows = [part(scored(images_), "class", label="glioma") for images_ in (many, few)]
    assert [row["groups"] for row in rows] == [20, 4]
    narrow, wide = (row["recall"]["high"] - row["recall"]["low"] for row in rows)
    assert wide > narrow


def test_maps_are_scored_where_there_is_an_outline_and_a_called_tumour():
    hits, mass = [1, 0, np.nan, np.nan], [0.5, 0.1, np.nan, np.nan]
    masked = images("glioma", "here", ["glioma"] * 4, pointing_game=hits, rma=mass)
    row = part(scored(masked, FREE), "class", label="glioma")
    assert row["localised"] == 2 and row["pointing_game"]["value"] == 0.5
    assert row["rma"]["value"] == pytest.approx(0.3)
    assert part(scored(masked, FREE), "class", label="notumor")["pointing_game"]["value"] is None


def test_no_images_give_no_scores_and_a_table_with_headings():
    empty = summarise(GOOD.iloc[:0], resamples=200, seed=0)
    assert empty == {"n": 0, "groups": 0, "parts": [], "cells": None}
    assert list(flat({"b0": {"clean": empty}}).columns) == ["model", "images", "by", "label", "n"]


def test_the_flat_table_has_a_row_per_part_and_columns_for_intervals():
    scores = scored(GOOD, FREE)
    table = flat({"b0": {"clean": scores, "contaminated": scored(BAD)}})
    assert len(table) == len(scores["parts"]) + 3
    row = table[(table["by"] == "class") & (table["label"] == "glioma") & (table["images"] == "contaminated")].iloc[0]
    assert row["called_no_tumour"] == 0.75 and row["called_no_tumour_low"] <= 0.75 <= row["called_no_tumour_high"]


INDEX = pd.DataFrame({"id": ["glioma/1", "glioma/2"], "contrast": ["T1", ""], "patient": ["E1", ""]})


def test_images_without_a_contrast_are_told_in_one_line():
    with pytest.raises(UserError, match=r"patients\.csv: no contrast for glioma/2 \(1 such images\): fill the column"):
        check(INDEX, INDEX.iloc[:0], "external/patients.csv")


def test_patients_of_the_training_set_are_told_in_one_line():
    known = pd.DataFrame({"patient": ["P1", "E1", ""]})
    with pytest.raises(UserError, match=r"patients\.csv: patient 'E1' is in the training set too \(1 images"):
        check(INDEX.assign(contrast="T1"), known, "external/patients.csv")
    check(INDEX.assign(contrast="T1"), pd.DataFrame({"patient": ["P1", ""]}), "external/patients.csv")
