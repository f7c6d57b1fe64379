"""Local class folders: every supported layout, and a one-line error for every mistake."""

import gzip

import nibabel
import numpy as np
import pytest
import yaml

from mri.base.errors import UserError
from mri.data import dataset, download, images
from mri.data.sources import local
from tests.data.sources.sample_files import mask, picture, scan, write
from tests.imagefiles import dicom, nifti, ras, series, volume, zipped

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
PLAIN = {f"{label}/{n}.png": picture(10 * i + n) for i, label in enumerate(CLASSES) for n in range(3)}
SPLIT = {f"{part}/{name}": content for part in ("Training", "Testing") for name, content in PLAIN.items()}


def fetch(folder, **options):
    options = {"folder": str(folder), "source": "local"} | options
    return download.download("local", options, CLASSES, folder.parent / "out", 0)


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data", PLAIN)


def test_class_folders_become_labels(data):
    index = fetch(data)
    assert index["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 3)
    assert index["id"].tolist() == sorted(name.removesuffix(".png") for name in PLAIN)
    assert set(index["official_split"]) == {""}
    assert set(index["source"]) == {"local"}
    assert set(index["patient"]) == {""}


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("train", "test")])
def test_train_and_test_folders_become_the_official_split(tmp_path, train, test):
    renamed = {name.replace("Training", train).replace("Testing", test): data for name, data in SPLIT.items()}
    index = fetch(write(tmp_path / "data", renamed))
    assert index["official_split"].value_counts().to_dict() == {"train": 12, "test": 12}
    assert index.loc[index["id"].str.startswith(f"{test}/"), "official_split"].eq("test").all()


def test_every_format_is_read_and_headers_stay_behind(data):
    values = scan(7)
    write(
        data,
        {
            "glioma/a.jpeg": picture(1, "JPEG"),
            "glioma/b.dcm": dicom(values.astype(np.uint16)),
            "glioma/1.2.840.4711": dicom(values.astype(np.uint16)),
            "glioma/deeper/c.nii.gz": gzip.compress(nibabel.Nifti1Image(values, np.eye(4)).to_bytes()),
        },
    )
    index = fetch(data).set_index("id")
    out = data.parent / "out"
    assert index.loc["glioma/b", "path"] == "images/glioma/b.png"
    assert index.loc["glioma/1.2.840.4711", "path"] == "images/glioma/1.2.840.4711.png"
    assert index.loc["glioma/deeper/c", "path"] == "images/glioma/deeper/c.png"
    np.testing.assert_array_equal(images.read(out / index.loc["glioma/b", "path"]), images.to_uint8(values))
    assert not any(b"Doe^Jane" in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_files_of_the_user_are_left_alone(data):
    before = {path: (path.read_bytes(), path.stat().st_nlink, path.stat().st_mode) for path in data.rglob("*.png")}
    fetch(data)
    after = {path: (path.read_bytes(), path.stat().st_nlink, path.stat().st_mode) for path in data.rglob("*.png")}
    assert after == before
    assert not any(path.is_symlink() for path in (data.parent / "out").rglob("*"))


def test_masks_lie_under_the_same_path(data):
    write(data, {"masks/glioma/1.png": mask()})
    index = fetch(data).set_index("id")
    assert index.loc["glioma/1", "mask"] == "masks/glioma/1.png"
    assert (index["mask"] != "").sum() == 1


def test_patients_and_sources_come_from_the_table(data):
    write(data, {"patients.csv": b"\xef\xbb\xbfpath,patient,source\nglioma/1.png,P1,A\nglioma\\2.png, P1 ,\n"})
    index = fetch(data, source="mine").set_index("id")
    assert index.loc[["glioma/1", "glioma/2", "glioma/0"], "patient"].tolist() == ["P1", "P1", ""]
    assert index.loc[["glioma/1", "glioma/2", "glioma/0"], "source"].tolist() == ["A", "mine", "mine"]


def test_reference_slices_hidden_and_leftover_files_are_no_images(data):
    write(data, {"reference/images/1.jpg": picture(1), "reference/slices.csv": b"slice\n1\n"})
    write(data, {"README.md": b"mine", ".gitignore": b"*", "glioma/.DS_Store": b"x", "glioma/Thumbs.db": b"x"})
    assert len(fetch(data)) == 12
    assert (data.parent / "out" / dataset.SKIPPED).read_text() == "id,path,reason\n"


def test_volumes_and_series_become_slices_that_are_one_group(data, capsys):
    values = volume(5)
    tumour = values > 650
    tumour[:2] = False
    names = [f"notumor/case/{name}" for name in series(values)]
    write(data, dict(zip(names, series(values).values(), strict=True)))
    write(
        data,
        {
            "glioma/scan.nii.gz": gzip.compress(nifti(ras(values))),
            "masks/glioma/scan.nii.gz": gzip.compress(nifti(ras(tumour).astype(np.uint8))),
            "pituitary/scan.zip": zipped(series(values)),
            "patients.csv": b"path,patient\npituitary/scan.zip,P7\n",
        },
    )
    index = fetch(data).set_index("id")
    case = index.loc[names]
    assert set(case["patient"]) == set(case["group"]) == {"notumor/case/IM000001"}
    assert set(case["plane"]) == {"axial"}
    masked = index[index["group"] == "glioma/scan"]
    assert masked.index.tolist() == ["glioma/scan/003", "glioma/scan/004", "glioma/scan/005"]
    out = data.parent / "out"
    covers = [images.read_mask(out / path, (96, 80)) for path in masked["mask"]]
    np.testing.assert_array_equal(np.stack(covers), tumour[2:])
    packed = index[index["group"] == "pituitary/scan.zip/IM000001"]
    assert len(packed) == 5 and set(packed["patient"]) == {"P7"}
    assert "left out of series: 2 x no tumour in its mask" in capsys.readouterr().err
    assert len(index) == 12 + 5 + 3 + 5


MISTAKES = {
    "mask without image": ({"masks/glioma/77.png": mask()}, r"masks/glioma/77\.png: mask without an image"),
    "extra folder": ({"glioblastoma/1.png": picture(1)}, r"glioblastoma: unexpected folder, the classes are glioma"),
    "image at the top": ({"1.png": picture(1)}, r"data/1\.png: image outside a class folder"),
    "two files of one name": ({"glioma/1.jpg": picture(1, "JPEG")}, r"glioma/1\.png: same name as 1\.jpg beside it"),
    "test part only": ({"test/glioma/1.png": picture(1)}, r"glioma: unexpected folder beside test/"),
    "unknown file in table": (
        {"patients.csv": b"path,patient\nglioma/1.png,P1\nglioma/99.png,P1\n"},
        r"patients\.csv: names a file that does not exist: glioma/99\.png \(1 such rows\)",
    ),
    "file twice in table": (
        {"patients.csv": b"path,patient\nglioma/1.png,P1\nglioma/1.png,P2\n"},
        r"patients\.csv: lists a file twice: glioma/1\.png",
    ),
    "other columns": ({"patients.csv": b"file,id\nglioma/1.png,P1\n"}, r"needs the columns path,patient, has file,id"),
    "no csv": ({"patients.csv": b""}, r"patients\.csv: not a readable CSV"),
    "other encoding": ({"patients.csv": b"path,patient\nglioma/1.png,M\xfcller\n"}, r"patients\.csv: .*UTF-8"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_told_in_one_line_that_names_the_file(data, case):
    files, message = MISTAKES[case]
    with pytest.raises(UserError, match=message) as error:
        fetch(write(data, files))
    assert "\n" not in str(error.value)


def test_missing_folder_is_told_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"data: no such folder: put class folders in it .*data=phantom"):
        fetch(tmp_path / "data")


def test_empty_folder_is_told(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="no class folders in it: put one folder per class there"):
        fetch(tmp_path / "data")


def test_missing_class_is_told(data):
    for path in (data / "notumor").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="notumor: class folder is empty"):
        fetch(data)
    (data / "notumor").rmdir()
    with pytest.raises(UserError, match="notumor: class folder is missing: add it, or leave notumor out"):
        fetch(data)


def test_misspelt_class_is_told_with_its_name(data):
    (data / "notumor").rename(data / "no_tumor")
    with pytest.raises(UserError, match=r"no_tumor: unexpected folder.*: rename it to notumor"):
        fetch(data)


def test_train_part_without_a_test_part_is_told(tmp_path):
    only = {name: content for name, content in SPLIT.items() if name.startswith("Training")}
    with pytest.raises(UserError, match="has Training where one train and one test folder belong together"):
        fetch(write(tmp_path / "data", only))


def test_class_missing_in_one_part_is_told(tmp_path):
    some = {name: content for name, content in SPLIT.items() if not name.startswith("Testing/glioma")}
    with pytest.raises(UserError, match="Testing/glioma: class folder is missing"):
        fetch(write(tmp_path / "data", some))


def test_order_of_files_on_disk_does_not_matter(tmp_path):
    one = fetch(write(tmp_path / "one/data", PLAIN))
    other = fetch(write(tmp_path / "other/data", dict(reversed(PLAIN.items()))))
    assert one.equals(other)


def test_configuration_is_valid(root):
    conf = yaml.safe_load((root / "conf/data/local.yaml").read_text())
    assert local.Options.model_validate(conf["options"]).folder == "data"
    assert conf["classes"] == CLASSES
