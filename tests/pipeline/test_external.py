"""The stage external, on the published package: made pictures, some of them copies, and every mistake in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mri.base.errors import UserError
from mri.base.files import read_json
from mri.base.params import Params, parse
from mri.commands.compose import compose
from mri.data import dataset
from mri.data.dataset import ImageRecord
from stages.external import external
from tests.data.test_overlap import changed, head

ROOT = Path(__file__).parents[2]
SIZE = ["size=160", "train.phases=[{epochs: 1, size: 160}]", "evaluate.resamples=100"]
FILES = {"glioma/a": head(1), "glioma/b": head(2), "notumor/c": head(3), "notumor/again": head(3), "notumor/d": head(4)}
COPY = changed(head(50), 70, True, 0.8, 1, 1)  # of an image of the dataset


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    """Parameters with images from elsewhere, in a folder that has them, a dataset and the published package."""
    for name, pixels in {**FILES, "glioma/copy": COPY}.items():
        write(tmp_path / f"external/{name}.png", pixels)
    mask = np.zeros((150, 150), np.uint8)
    mask[60:80, 60:80] = 255
    write(tmp_path / "external/masks/glioma/a.png", mask)
    lines = [f"{name}.png,{name},hospital,T1+C" for name in [*FILES, "glioma/copy"]]
    (tmp_path / "external/patients.csv").write_text("\n".join(["path,patient,source,contrast", *lines]))
    rows = []
    for number in range(50, 53):
        write(tmp_path / f"artifacts/dataset/{number}.png", head(number))
        record = ImageRecord(f"{number}", f"{number}.png", "glioma", "made", patient=f"p{number}")
        rows.append(dataset.index_row(record, "", 150, 150))
    (tmp_path / "artifacts/splits").mkdir()
    dataset.write_index(rows, tmp_path / "artifacts/splits")
    (tmp_path / "artifacts/service").symlink_to(ROOT / "results/kaggle/package")
    made = parse(compose(["data=local", "data/external=local", *SIZE], ROOT / "conf"))
    monkeypatch.chdir(tmp_path)
    return made


def test_each_picture_is_scored_once_and_copies_of_the_dataset_apart(params):
    external(params)
    metrics = read_json(Path("metrics/details/external.json"))
    counts = {name: value for name, value in metrics.items() if name != "models"}
    assert counts == {"images": 6, "skipped": 0, "repeated": 1, "contaminated": 1, "scored": 5}
    copies = pd.read_csv("plots/external/copies.csv").set_index("id")
    assert copies.loc["glioma/copy", ["copy_of", "among", "mirrored"]].tolist() == ["50", "training set", True]
    assert copies.loc["notumor/c", ["copy_of", "among"]].tolist() == ["notumor/again", "images from elsewhere"]
    [(network, sets)] = metrics["models"].items()
    assert (sets["clean"]["n"], sets["contaminated"]["n"]) == (4, 1)
    assert {(part["label"], part["n"]) for part in sets["clean"]["parts"]} == {("glioma", 2), ("notumor", 2)}
    table = pd.read_csv("artifacts/external/predictions.csv").set_index("id")
    assert sorted(table.index) == ["glioma/a", "glioma/b", "glioma/copy", "notumor/again", "notumor/d"]
    assert set(table["model"]) == {network}
    np.testing.assert_allclose(table.filter(like="p_").sum(axis=1), 1)
    assert table["pointing_game"].drop("glioma/a").isna().all()  # the only one with an outline
    parts = pd.read_csv("plots/external/parts.csv")
    recall = (table["predicted"] == table["label"])[["glioma/a", "glioma/b"]].mean()
    row = parts[(parts["images"] == "clean") & (parts["by"] == "class") & (parts["label"] == "glioma")].iloc[0]
    assert row["recall"] == recall


def test_without_images_from_elsewhere_there_is_an_empty_valid_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    external(parse(compose([], ROOT / "conf")))
    metrics = read_json(Path("metrics/details/external.json"))
    assert metrics == {"images": 0, "skipped": 0, "repeated": 0, "contaminated": 0, "scored": 0, "models": {}}
    assert pd.read_csv("plots/external/copies.csv").empty and pd.read_csv("plots/external/parts.csv").empty
    assert Path("artifacts/external").is_dir()


def spoil_class(folder: Path) -> None:
    write(folder / "glioblastoma/x.png", head(5))


def spoil_contrast(folder: Path) -> None:
    table = pd.read_csv(folder / "patients.csv")
    table.drop(columns="contrast").to_csv(folder / "patients.csv", index=False)


def spoil_patient(folder: Path) -> None:
    table = (folder / "patients.csv").read_text()
    (folder / "patients.csv").write_text(table.replace("glioma/a.png,glioma/a", "glioma/a.png,p50"))


def spoil_image(folder: Path) -> None:
    (folder / "glioma/a.png").write_bytes(b"no image")


MISTAKES = {
    "a folder of an unknown class": (spoil_class, "glioblastoma: unexpected folder, the classes are glioma"),
    "no column contrast": (spoil_contrast, r"external/patients\.csv: no contrast for glioma/a \(6 such images\)"),
    "a patient of the dataset": (spoil_patient, r"patients\.csv: patient 'p50' is in the training set too"),
    "too many unreadable images": (
        spoil_image,
        "1 of 6 images cannot be used, listed in artifacts/external/skipped.csv",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(params, mistake):
    spoil, message = MISTAKES[mistake]
    spoil(Path("external"))
    with pytest.raises(UserError, match=message) as error:
        external(params)
    assert "\n" not in str(error.value)


def test_no_stage_but_the_report_reads_what_was_measured_on_images_from_elsewhere():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    written = [next(iter(out)) if isinstance(out, dict) else out for out in stages["external"]["outs"]]
    readers = {
        name
        for name, stage in stages.items()
        for dep in stage.get("do", stage)["deps"]
        for out in written
        if f"{dep}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dep}/")
    }
    assert readers == {"report"}
