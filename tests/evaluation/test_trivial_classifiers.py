"""Each trivial classifier wins exactly where its shortcut exists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from mri.base.intervals import wilson
from mri.data.properties import GREY_STATISTICS, Evidence, file_properties, grey_statistics
from mri.evaluation.trivial_classifiers import score

CLASSES = ["glioma", "notumor"]


def evidence(images: np.ndarray, modes: list[str] | None = None) -> Evidence:
    """Return what the trivial classifiers see of uint8 (N, S, S) images."""
    files = [
        file_properties(image, mode, 1000) for image, mode in zip(images, modes or ["L"] * len(images), strict=True)
    ]
    return Evidence(images, pd.DataFrame(files), np.stack([grey_statistics(image) for image in images]))


def run(labels: list[str], seen: Evidence, sources: list[str] | None = None, train: int = 60) -> dict:
    """Return the scores when the first `train` images are for training and the others for testing."""
    frame = pd.DataFrame({"label": labels, "source": sources or "web", "group": np.arange(len(labels)).astype(str)})
    for_training = np.arange(len(labels)) < train
    return score(frame, seen, for_training, ~for_training, CLASSES, resamples=200, seed=0)


def noise(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), np.uint8)


ALTERNATING = ["glioma", "notumor"] * 60


def test_file_properties_are_the_file_s():
    pixels = np.array([[0, 100, 200], [0, 100, 200]], np.uint8)
    expected = {"width": 3, "height": 2, "aspect": 1.5, "mode": "RGB", "bytes": 77, "mean": 100.0}
    properties = file_properties(pixels, "RGB", 77)
    assert properties.pop("std") == pytest.approx(81.6497, abs=1e-4)
    assert properties == expected


def test_grey_statistics_of_a_known_image():
    pixels = np.repeat(np.array([0, 100, 200, 255], np.uint8), 25).reshape(10, 10)
    values = dict(zip(GREY_STATISTICS, grey_statistics(pixels).tolist(), strict=True))
    assert values["mean"] == 138.75 and values["entropy"] == 2.0
    assert values["std"] == pytest.approx(pixels.std())
    quartiles = [values[f"percentile_{percent}"] for percent in (5, 25, 50, 75, 95)]
    assert quartiles == [0, 0, 100, 200, 255]
    assert values["dark_share"] == 0.25 and values["bright_share"] == 0.5
    assert values["skewness"] == pytest.approx(stats.skew(pixels.ravel()))
    assert values["kurtosis"] == pytest.approx(stats.kurtosis(pixels.ravel()))


@settings(max_examples=50)
@given(pixels=arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))), seed=st.integers(0, 9))
def test_grey_statistics_are_blind_to_where_grey_levels_lie(pixels, seed):
    shuffled = np.random.default_rng(seed).permutation(pixels.ravel())[None]
    assert np.isfinite(grey_statistics(pixels)).all()
    assert grey_statistics(shuffled).tolist() == grey_statistics(pixels).tolist()


def test_majority_calls_everything_the_most_frequent_training_class():
    labels = ["glioma"] * 40 + ["notumor"] * 20 + ["glioma"] * 6 + ["notumor"] * 14
    scores = run(labels, evidence(noise(80)))["majority"]
    assert scores["accuracy"]["value"] == pytest.approx(0.3)
    assert scores["balanced_accuracy"]["value"] == 0.5
    assert scores["per_class"] == {"glioma": {"recall": 1.0}, "notumor": {"recall": 0.0}}
    assert scores["missed_tumour_rate"] == wilson(0, 6)


def test_a_baseline_that_calls_everything_tumour_free_misses_every_tumour():
    labels = ["notumor"] * 40 + ["glioma"] * 20 + ["glioma"] * 6 + ["notumor"] * 14
    scores = run(labels, evidence(noise(80)))["majority"]
    assert scores["missed_tumour_rate"] == wilson(6, 6)


def test_nearest_neighbour_recognises_brightened_copies_and_grey_levels_do_not():
    originals = noise(60)
    copies = (originals * 0.3 + 100).astype(np.uint8)
    scores = run(ALTERNATING, evidence(np.concatenate([originals, copies])))
    assert scores["nearest_neighbour"]["accuracy"]["value"] == 1
    assert scores["grey_levels"]["accuracy"]["value"] < 0.8


def test_colour_mode_alone_gives_classes_away_to_the_shortcut():
    seen = evidence(noise(120), modes=["L", "RGB"] * 60)
    scores = run(ALTERNATING, seen)
    assert scores["shortcut"]["accuracy"]["value"] > 0.95
    assert scores["grey_levels"]["accuracy"]["value"] < 0.75
    assert scores["nearest_neighbour"]["accuracy"]["value"] < 0.75


def test_distribution_of_grey_levels_gives_classes_away_to_its_forest():
    images = noise(120)
    images[1::2] = np.where(images[1::2] > 127, 255, 0)
    assert run(ALTERNATING, evidence(images))["grey_levels"]["accuracy"]["value"] == 1.0


def test_shape_gives_classes_away_to_neither_forest():
    """The same grey levels, arranged as a bright left or a bright right half."""
    random = np.random.default_rng(0)
    images = np.concatenate([random.integers(0, 100, (120, 16, 8)), random.integers(150, 256, (120, 16, 8))], axis=2)
    images[1::2] = images[1::2, :, ::-1]
    scores = run(ALTERNATING, evidence(images.astype(np.uint8)))
    assert scores["nearest_neighbour"]["accuracy"]["value"] == 1.0
    assert scores["grey_levels"]["accuracy"]["value"] < 0.75 and scores["shortcut"]["accuracy"]["value"] < 0.75


def test_source_predicts_its_usual_class_and_an_unknown_one_the_overall_one():
    labels = ["glioma"] * 40 + ["notumor"] * 20 + ["notumor", "glioma", "notumor", "notumor"]
    sources = ["a"] * 40 + ["b"] * 20 + ["b", "a", "new", "a"]
    scores = run(labels, evidence(noise(64)), sources)["source"]
    assert scores["accuracy"]["value"] == 0.5
    assert scores["per_class"] == {"glioma": {"recall": 1.0}, "notumor": {"recall": pytest.approx(1 / 3)}}


def test_every_baseline_has_intervals_and_the_same_seed_repeats_them():
    seen = evidence(noise(120))
    scores = run(ALTERNATING, seen)
    assert set(scores) == {"majority", "nearest_neighbour", "shortcut", "grey_levels", "source"}
    for baseline in scores.values():
        for measure in ("accuracy", "balanced_accuracy", "macro_f1", "missed_tumour_rate"):
            assert set(baseline[measure]) == {"value", "low", "high"}
    for measure in ("accuracy", "missed_tumour_rate"):
        assert 0 < scores["shortcut"][measure]["low"] < scores["shortcut"][measure]["high"] < 1
    assert run(ALTERNATING, seen) == scores


def test_class_without_test_images_is_left_out():
    scores = run(["glioma", "notumor"] * 30 + ["glioma"] * 4, evidence(noise(64)))
    assert set(scores["majority"]["per_class"]) == {"glioma"} and "missed_tumour_rate" in scores["majority"]
    scores = run(["glioma", "notumor"] * 30 + ["notumor"] * 4, evidence(noise(64)))
    assert set(scores["majority"]["per_class"]) == {"notumor"} and "missed_tumour_rate" not in scores["majority"]


def test_blank_images_are_no_neighbour_of_anything_but_get_a_class():
    images = noise(64)
    images[60:] = 7
    assert 0 <= run(["glioma", "notumor"] * 32, evidence(images))["nearest_neighbour"]["accuracy"]["value"] <= 1
