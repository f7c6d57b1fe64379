"""The BRISC source, on small files with the names and folders of the set."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from mri.base.errors import UserError
from mri.data import download, images
from mri.data.sources import brisc
from tests.data.sources.sample_files import mask, picture, write
from tests.data.sources.test_kaggle import API, archive, offer

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
HANDLE = "briscdataset/brisc2025/versions/6"
NAMES = {
    "glioma": ["brisc2025_train_00001_gl_ax_t1", "brisc2025_test_00001_gl_co_t1"],
    "meningioma": ["brisc2025_train_00002_me_sa_t1"],
    "no_tumor": ["brisc2025_train_00003_no_ax_t1", "brisc2025_test_00002_nt_ax_t1"],
    "pituitary": ["brisc2025_train_00004_pi_co_t1"],
}
COUNTS = {"train": dict.fromkeys(CLASSES, 1), "test": {"glioma": 1, "notumor": 1}}


def files() -> dict[str, bytes]:
    """Return a small version of the data set: each image twice (for both tasks), each tumour's mask once."""
    contents = {"brisc2025/README.md": b"BRISC"}
    for folder, names in NAMES.items():
        for seed, name in enumerate(names):
            split = name.split("_")[1]
            image = picture(seed + len(folder), "JPEG")
            contents[f"brisc2025/classification_task/{split}/{folder}/{name}.jpg"] = image
            if folder != "no_tumor":
                contents[f"brisc2025/segmentation_task/{split}/images/{name}.jpg"] = image
                contents[f"brisc2025/segmentation_task/{split}/masks/{name}.png"] = mask()
    return contents


def fetch(folder: Path, out: Path, **options):
    options = {"handle": HANDLE, "folder": str(folder), "counts": COUNTS} | options
    return download.download("brisc", options, CLASSES, out, 0)


def test_names_give_class_part_and_plane(tmp_path):
    index = fetch(write(tmp_path / "by hand", files()), tmp_path / "out").set_index("id")
    assert len(index) == 6
    assert index.loc["brisc2025_test_00001_gl_co_t1", ["label", "official_split", "plane"]].tolist() == [
        "glioma",
        "test",
        "coronal",
    ]
    assert index.loc["brisc2025_train_00003_no_ax_t1", "label"] == "notumor"
    assert index.loc["brisc2025_test_00002_nt_ax_t1", "label"] == "notumor"
    assert index.loc["brisc2025_train_00002_me_sa_t1", "plane"] == "sagittal"


def test_tumours_have_their_mask_and_others_none(tmp_path):
    out = tmp_path / "out"
    index = fetch(write(tmp_path / "by hand", files()), out)
    assert ((index["mask"] != "") == (index["label"] != "notumor")).all()
    for row in index[index["mask"] != ""].itertuples():
        assert images.read_mask(out / row.mask, (32, 32)).sum() == np.count_nonzero(images.read(mask()))


def test_download_from_kaggle(kaggle_server, tmp_path):
    offer(kaggle_server, archive(files()))
    index = download.download("brisc", {"handle": HANDLE, "folder": "", "counts": COUNTS}, CLASSES, tmp_path, 0)
    assert len(index) == 6
    assert kaggle_server.requests[0][:2] == ("POST", API)


def test_other_counts_are_refused(tmp_path):
    contents = files()
    del contents["brisc2025/classification_task/train/glioma/brisc2025_train_00001_gl_ax_t1.jpg"]
    with pytest.raises(UserError, match="0 glioma images in train instead of 1"):
        fetch(write(tmp_path / "by hand", contents), tmp_path / "out")


def test_renamed_file_is_named(tmp_path):
    contents = files() | {"brisc2025/classification_task/train/glioma/brisc2025_train_1_xx.jpg": picture(9)}
    with pytest.raises(UserError, match=r"brisc2025_train_1_xx\.jpg: not a name like"):
        fetch(write(tmp_path / "by hand", contents), tmp_path / "out")


def test_folder_without_the_set_is_refused(tmp_path):
    (tmp_path / "by hand").mkdir()
    with pytest.raises(UserError, match=r"no brisc2025_\*\.jpg below classification_task/"):
        fetch(tmp_path / "by hand", tmp_path / "out")


def test_configuration_counts_the_published_numbers(root):
    conf = yaml.safe_load((root / "conf/data/brisc.yaml").read_text())
    options = brisc.Options.model_validate(conf["options"])
    assert sum(options.counts["train"].values()) == 5000
    assert sum(options.counts["test"].values()) == 1000
