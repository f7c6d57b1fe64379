"""The tables and pictures of the exploratory notebook on small synthetic inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from mri.base.errors import UserError
from mri.base.files import write_json
from mri.commands.compose import compose
from mri.data import dataset
from mri.data.dataset import Dataset
from mri.report import exploration
from mri.report import exploration_figures as pictures
from tests.workspace import ROOT


def table(**columns) -> pd.DataFrame:
    """Return an index with one image per value of the columns; columns not given are empty."""
    count = len(next(iter(columns.values())))
    ids = [f"i{number}" for number in range(count)]
    empty = dict.fromkeys(("path", "label", "source", "official_split", "patient", "plane", "split"), "")
    return pd.DataFrame({"id": ids, "group": ids, "near": ids, "row": range(count), "mask_row": -1, **empty} | columns)


def pairs(*rows: tuple[int, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["a", "b", "transform"]).assign(correlation=0.99)


def dataset_of(frame: pd.DataFrame, masks: np.ndarray | None = None) -> Dataset:
    pixels = np.arange(len(frame) * 16, dtype=np.uint8).reshape(-1, 4, 4)
    return Dataset(frame, pixels, np.zeros((0, 1, 1), bool) if masks is None else masks, ["glioma", "notumor"])


def picture(seed: int) -> np.ndarray:
    """Return a smooth random picture unlike its mirror image, uint8 (64, 64)."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(64, 64)), 5)
    return np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))


def workspace(folder: Path, monkeypatch, images: int = 1, protocol: str = "grouped") -> None:
    """A working folder with params.yaml, one image in the index, and metrics of `images` split by `protocol`."""
    monkeypatch.chdir(folder)
    Path("params.yaml").write_text(yaml.safe_dump(compose([], ROOT / "conf")))
    for path in ("artifacts/dataset", "artifacts/splits"):
        Path(path).mkdir(parents=True)
        dataset.write_index(table(label=["glioma"]), Path(path))
    np.save("artifacts/splits/images.npy", np.zeros((1, 4, 4), np.uint8))
    Path("artifacts/splits/contradictions.csv").write_text("id,path,label\n")
    Path("artifacts/splits/duplicates.csv").write_text("transform,correlation,id_a,id_b\nmirror,0.99,i0,i0\n")
    write_json({"images": images, "baselines": {protocol: {}}}, Path("metrics/details/data.json"))


def test_load_reads_what_the_split_stage_wrote(tmp_path, monkeypatch):
    workspace(tmp_path, monkeypatch)
    loaded = exploration.load()
    assert loaded.data.index["label"].tolist() == ["glioma"] and loaded.metrics["images"] == 1
    assert loaded.params.data.name == "phantom" and loaded.contradictions.empty
    assert loaded.copies[["a", "b", "transform"]].to_numpy().tolist() == [[0, 0, "mirror"]]


@pytest.mark.parametrize(
    "missing",
    ["artifacts/dataset/index.csv", "artifacts/splits/index.csv", "metrics/details/data.json"],
    ids=lambda x: x,
)
def test_load_names_what_is_missing_and_what_to_run(tmp_path, monkeypatch, missing):
    workspace(tmp_path, monkeypatch)
    Path(missing).unlink()
    with pytest.raises(UserError, match=rf"^{missing} does not exist: run `dvc repro split` first"):
        exploration.load()


@pytest.mark.parametrize("other", [{"images": 2}, {"protocol": "official"}], ids=["images", "protocol"])
def test_load_refuses_metrics_of_another_run(tmp_path, monkeypatch, other):
    workspace(tmp_path, monkeypatch, **other)
    with pytest.raises(UserError, match="not of this dataset or split: run `dvc repro split` first"):
        exploration.load()


def test_overview_says_what_is_known_and_what_is_not():
    frame = table(label=["glioma"] * 3, source=["b", "a", "a"], official_split=["test", "train", ""])
    frame = frame.assign(width=[4, 4, 8], height=[4, 4, 4], mask_row=[0, -1, -1])
    metrics = {"skipped": 5, "patients": 0, "distinct": {"exact": 3, "near": 2, "group": 1}}
    shown = exploration.overview("mine", frame, metrics)
    assert shown.tolist() == ["mine", 3, 5, "a, b", 2, "not known", "not known", 1, 1, 2, 1]
    assert shown.index[4] == "different image sizes" and shown.index[7] == "images with a tumour mask"


def test_counts_keep_the_order_of_classes_and_parts_and_add_up():
    frame = table(label=["b", "a", "a", "a"], split=["test", "", "train", "test"])
    counts = exploration.counts(frame, ["b", "a"], "split")
    assert counts.columns.tolist() == ["train", "test", "unused", "all"]
    assert counts.to_dict("index") == {
        "b": {"train": 0, "test": 1, "unused": 0, "all": 1},
        "a": {"train": 1, "test": 1, "unused": 1, "all": 3},
        "all": {"train": 1, "test": 2, "unused": 1, "all": 4},
    }


def test_counts_put_rare_values_together_and_name_unknown_ones():
    frame = table(label=["a"] * 7, source=["x", "x", "x", "", "", "y", "z"])
    assert exploration.counts(frame, ["a"], "source").columns.tolist() == ["x", "not known", "y", "z", "all"]
    few = exploration.counts(frame, ["a"], "source", most=3)
    assert few.loc["a"].to_dict() == {"x": 3, "not known": 2, "other": 2, "all": 7}


def test_examples_are_unrelated_and_drawn_anew_by_the_seed():
    frame = table(label=["a"] * 20 + ["b"] * 2, group=[f"g{n // 2}" for n in range(20)] + ["g0", "g0"])
    drawn = exploration.examples(frame, "label", 5)
    assert drawn["label"].tolist() == ["a"] * 5 + ["b"]
    assert not drawn.duplicated(["group", "label"]).any()
    assert drawn.equals(exploration.examples(frame, "label", 5))
    assert not drawn["id"].equals(exploration.examples(frame, "label", 5, seed=1)["id"])


def test_files_are_measured_as_they_are_stored(tmp_path):
    half = np.zeros((16, 20), np.uint8)
    half[:, 10:] = 200
    Image.fromarray(half).save(tmp_path / "grey.png")
    upright = np.full((32, 16), 50, np.uint8)
    upright[16:] = 150
    Image.fromarray(upright).convert("RGB").save(tmp_path / "colour.png")
    measured, levels = exploration.measure(tmp_path, table(path=["grey.png", "colour.png"]))
    assert measured["id"].tolist() == ["i0", "i1"]
    assert measured["size"].tolist() == ["20 × 16", "16 × 32"] and measured["aspect"].tolist() == [1.25, 0.5]
    assert measured["mode"].tolist() == ["L", "RGB"]
    assert measured["mean"].tolist() == [100, 100] and measured["std"].tolist() == [100, 50]
    assert measured["kilobytes"].tolist() == [(tmp_path / name).stat().st_size / 1000 for name in measured["path"]]
    assert levels.shape == (2, 256) and levels.dtype == np.float32
    assert levels[0, [0, 200]].tolist() == levels[1, [50, 150]].tolist() == [0.5, 0.5] and levels.sum() == 2


@pytest.mark.parametrize(("values", "explained"), [([0, 0, 2, 2], 1.0), ([0, 2, 0, 2], 0.0), ([0, 1, 1, 2], 0.5)])
def test_differences_give_medians_and_what_the_class_explains(values, explained):
    frame = table(label=list("aabb"), width=values)
    differences = exploration.differences(frame, "label", ["b", "a"], {"width": "width, pixels"})
    assert differences.columns.tolist() == ["b", "a", "explained"] and differences.index.tolist() == ["width, pixels"]
    assert differences.iloc[0].tolist() == [sum(values[2:]) / 2, sum(values[:2]) / 2, explained]


@pytest.mark.parametrize(("labels", "values"), [("aaaa", [0.1, 0.2, 0.4, 0.7]), ("aabb", [3, 3, 3, 3])])
def test_one_group_or_one_value_explains_nothing(labels, values):
    differences = exploration.differences(
        table(label=list(labels), mean=values), "label", sorted(set(labels)), {"mean": "m"}
    )
    assert differences["explained"].tolist() == [0]


@settings(max_examples=50)
@given(
    values=st.lists(st.integers(-100, 100), min_size=2, max_size=20),
    labels=st.randoms(use_true_random=False),
    scale=st.sampled_from([-3, 0.5, 7]),
)
def test_what_a_class_explains_is_a_share_that_no_change_of_unit_alters(values, labels, scale):
    frame = pd.DataFrame(
        {"label": [labels.choice("ab") for _ in values], "x": values, "y": np.array(values) * scale + 5}
    )
    x, y = exploration.differences(frame, "label", ["a", "b"], {"x": "x", "y": "y"})["explained"]
    assert 0 <= x <= 1 + 1e-9
    assert y == pytest.approx(x, abs=1e-9)


def test_patients_are_counted_by_class():
    frame = table(label=list("aaaaabc"), patient=["p", "p", "p", "q", "", "q", ""])
    counts = exploration.patients(frame, ["a", "b", "c"])
    assert counts.loc["a"].tolist() == [5, 4, 2, 2, 3]
    assert counts.loc["b"].tolist() == [1, 1, 1, 1, 1]
    assert counts.loc["c"].tolist() == [1, 0, 0, 0, 0]


def test_lesion_sizes_are_percentages_of_the_picture():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 0, 0] = masks[1, :2] = True
    frame = table(label=["glioma", "notumor", "glioma"]).assign(mask_row=[1, -1, 0])
    sizes = exploration.lesion_sizes(dataset_of(frame, masks))
    assert sizes.to_dict("list") == {"label": ["glioma", "glioma"], "area_percent": [50, 6.25]}
    assert exploration.lesion_sizes(dataset_of(table(label=["glioma"]))).empty


def test_duplicates_count_pictures_once():
    frame = table(label=list("aaaab"), near=["x", "x", "x", "y", "x"])
    counts = exploration.duplicates(frame, ["a", "b"])
    assert counts.columns.tolist() == ["images", "pictures", "of which repeated", "one picture, at most"]
    assert counts.to_numpy().tolist() == [[4, 2, 1, 3], [1, 1, 0, 1]]


def test_copies_are_those_of_the_metrics():
    metrics = {"duplicates": {"exact": 1, "near": 3}, "distinct": {"exact": 9, "near": 7, "group": 2}}
    assert exploration.copy_counts(metrics).to_dict("index") == {
        "exact": {"groups of copies": 1, "pictures": 9},
        "near": {"groups of copies": 3, "pictures": 7},
    }


def test_a_dataset_without_copies_has_no_transforms():
    assert exploration.transforms(pairs()).loc["pairs"].tolist() == [0] * 9


def test_transforms_count_pairs():
    counted = exploration.transforms(pairs((0, 1, "mirror"), (0, 2, "none"), (1, 2, "mirror"))).loc["pairs"]
    assert counted[counted > 0].to_dict() == {"all": 3, "none": 1, "mirror": 2}


def test_labels_that_were_resolved_are_put_back():
    contradicted = pd.DataFrame({"id": ["i1"], "label": ["pituitary"]})
    frame = table(label=["glioma", "meningioma"])
    assert exploration.as_labelled(frame, contradicted)["label"].tolist() == ["glioma", "pituitary"]
    assert frame["label"].tolist() == ["glioma", "meningioma"]


def test_leakage_has_a_row_per_comparison():
    split, official = ({"n": n, "exact": 0, "near": 0.25, "patient": 0.5, "per_class": {}} for n in (3, 4))
    shown = exploration.leakage({"leakage": {"split": split, "official": official}})
    assert shown.index.tolist() == ["test part in use", "the source's own test part"]
    assert shown.to_numpy().tolist() == [[3, 0, 0.25, 0.5], [4, 0, 0.25, 0.5]]


def scored(value: float) -> dict:
    score = {"value": value, "low": value - 0.1, "high": value + 0.1}
    recalls = {"a": {"recall": 1.0}, "b": {"recall": value}}
    return {"accuracy": score, "balanced_accuracy": score, "macro_f1": score, "per_class": recalls}


METRICS = {"baselines": {"grouped": {"majority": scored(0.25), "grey_levels": scored(0.5)}}}


def test_baselines_are_shown_with_intervals_and_recalls():
    shown = exploration.baselines(METRICS, "grouped")
    assert shown.columns.tolist() == ["accuracy", "balanced accuracy", "macro-F1"]
    assert shown.loc["grey levels"].tolist() == ["50.0 [40.0, 60.0]"] * 3
    scores = scored(0.5) | {"missed_tumour_rate": {"value": 0.25, "low": 0.0, "high": 0.5}}
    with_missed = exploration.baselines({"baselines": {"grouped": {"majority": scores}}}, "grouped")
    assert with_missed["missed tumours"].tolist() == ["25.0 [0.0, 50.0]"]
    recalls = exploration.recalls(METRICS, "grouped")
    assert recalls.to_dict("index") == {"majority": {"a": 1, "b": 0.25}, "grey levels": {"a": 1, "b": 0.5}}


def test_a_sample_sheet_shows_each_class_in_a_row_with_its_outlines():
    masks = np.zeros((1, 4, 4), bool)
    masks[0, 1:3, 1:3] = True
    frame = table(label=["glioma", "notumor", "glioma"]).assign(mask_row=[-1, -1, 0])
    axes = pictures.sample_sheet(dataset_of(frame, masks), "label", columns=3).axes
    shown = [axis.images[0].get_array().ravel()[0] if axis.images else None for axis in axes]
    assert shown == [0, 32, None, 16, None, None]  # the first pixel of image 0, 2 and 1
    assert [len(axis.collections) for axis in axes] == [0, 1, 0, 0, 0, 0]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == ["glioma", "notumor"]


@pytest.mark.parametrize(("sources", "text"), [(["x", "x"], "one source only: x"), (["", ""], "source not known")])
def test_a_sample_sheet_of_one_group_is_a_line_of_text(sources, text):
    figure = pictures.sample_sheet(dataset_of(table(label=["glioma", "notumor"], source=sources)), "source")
    assert figure.axes[0].texts[0].get_text() == text


def test_histograms_are_shares_of_a_group():
    frame = table(label=list("aaab"), width=[1, 1, 3, 3], height=[5, 5, 5, 5])
    figure = pictures.histograms(frame, "label", ["a", "b", "c"], {"width": "w", "height": "h"}, bins=2)
    heights = np.array([[bar.get_height() for bar in axis.patches] for axis in figure.axes])
    assert heights == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1], [0, 1], [0, 1], [0, 0], [0, 0]]))
    assert [axis.get_xlabel() for axis in figure.axes[-2:]] == ["w", "h"]


def test_histograms_of_no_image_are_a_line_of_text():
    figure = pictures.histograms(table(label=[]), "label", ["a"], {"width": "w"})
    assert figure.axes[0].texts[0].get_text() == "no such image"


def test_grey_levels_are_averaged_over_a_group():
    levels = np.zeros((3, 256), np.float32)
    levels[0, 0] = levels[1, 255] = levels[2, 7] = 1
    groups = {"label": ["a", "b"], "source": ["x"]}
    figure = pictures.grey_levels(table(label=list("aab"), source=list("xxx")), levels, groups)
    lines = [line.get_ydata() for axis in figure.axes for line in axis.lines]
    assert [line[[0, 7, 255]].round().tolist() for line in lines] == [[50, 0, 50], [0, 100, 0], [33, 33, 33]]


def test_a_pair_sheet_shows_both_images_of_a_pair():
    frame = table(label=["glioma", "notumor", "glioma"], official_split=["train", "test", "test"])
    pixels = dataset_of(frame).pixels
    figure = pictures.pair_sheet(pixels, frame, pairs((0, 2, "mirror")), "Copies")
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert np.array_equal(shown, pixels[[0, 2]])
    assert figure.get_suptitle() == "Copies: 1 of 1 pairs"
    assert pictures.pair_sheet(pixels, frame, pairs(), "Copies").axes[0].texts[0].get_text() == "Copies: none"


def test_baseline_scores_stand_at_their_values():
    axis = pictures.baseline_scores(METRICS, ["a", "b", "c", "d"]).axes[0]
    values, guessing = axis.lines[0].get_xdata(), axis.lines[-1].get_xdata()
    assert values.tolist() == [25, 50] and list(guessing) == [25, 25]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["majority", "grey levels"]
