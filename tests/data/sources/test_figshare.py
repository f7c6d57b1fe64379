"""The figshare source: generated MATLAB files, fetched from a local server."""

import hashlib
import io
import zipfile

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from mri.base.errors import UserError
from mri.data import download, images
from mri.data.sources import _http, figshare
from tests.data.sources.loopback import Resource, closed_port
from tests.data.sources.sample_files import write

CLASSES = ["glioma", "meningioma", "pituitary"]
PATIENTS = ["100360", "MR017260F", "MR017260G", "abc"]
CODES = [1, 2, 2, 3]


def grey_levels(number: int) -> np.ndarray:
    levels = np.random.default_rng(number).integers(0, 3000, (40, 30)).astype(np.int16)
    levels[2, 25] = 9000  # a landmark in the top right
    return levels


def mask(number: int) -> np.ndarray:
    tumour = np.zeros((40, 30), np.uint8)
    tumour[5 : 8 + number, 20:27] = 1
    return tumour


def slice_file(number: int) -> bytes:
    """Return N.mat as MATLAB v7.3 writes it: HDF5, column-major, text as character codes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("cjdata")
        group["label"] = np.array([[float(CODES[number - 1])]])
        group["PID"] = np.array([[ord(letter)] for letter in PATIENTS[number - 1]], np.uint16)
        group["image"] = grey_levels(number).T
        group["tumorMask"] = mask(number).T
        group["tumorBorder"] = np.zeros((1, 8))
    return buffer.getvalue()


def zipped(*numbers: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in numbers:
            archive.writestr(f"{number}.mat", slice_file(number))
    return buffer.getvalue()


def folds() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["cvind"] = np.array([[3.0, 1.0, 1.0, 5.0]])
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {"part_1-2.zip": zipped(1, 2), "part_3-4.zip": zipped(3, 4), "cvind.mat": folds()}


@pytest.fixture
def options(server, files) -> dict:
    server.resources = {f"/{name}": Resource(content) for name, content in files.items()}
    listed = [
        {"name": name, "url": f"{server.url}/{name}", "md5": hashlib.md5(content).hexdigest()}
        for name, content in files.items()
    ]
    return {"files": listed, "slices": 4, "folder": ""}


def test_download_gives_labels_patients_folds_and_masks(options, tmp_path):
    index = download.download("figshare", options, CLASSES, tmp_path / "out", 0)
    assert index["id"].tolist() == ["1", "2", "3", "4"]
    assert index["label"].tolist() == ["meningioma", "glioma", "glioma", "pituitary"]
    assert index["fold"].tolist() == ["3", "1", "1", "5"]
    assert index["patient"].tolist() == ["100360", "MR017260", "MR017260", "abc"]
    assert index["group"].tolist() == PATIENTS
    assert set(index["source"]) == {"figshare"}
    assert index[["width", "height"]].values.tolist() == [[30, 40]] * 4


def test_pixels_and_masks_are_upright_and_in_scale(options, tmp_path):
    index = download.download("figshare", options, CLASSES, tmp_path, 0)
    for number, row in enumerate(index.itertuples(), start=1):
        pixels = images.read(tmp_path / row.path)
        np.testing.assert_array_equal(pixels, images.to_uint8(grey_levels(number)))
        assert np.unravel_index(pixels.argmax(), pixels.shape) == (2, 25)
        tumour = images.read_mask(tmp_path / row.mask, pixels.shape)
        np.testing.assert_array_equal(tumour, mask(number) > 0)
        assert Image.open(tmp_path / row.mask).mode == "1"


def test_interrupted_download_is_continued_and_not_repeated(options, server, files, tmp_path, monkeypatch):
    monkeypatch.setattr(_http, "ATTEMPTS", 1)
    monkeypatch.setattr(_http, "CHUNK", 100)
    server.resources["/part_3-4.zip"].break_after = 500
    with pytest.raises(UserError, match="broke off"):
        download.download("figshare", options, CLASSES, tmp_path, 0)
    server.requests.clear()
    assert len(download.download("figshare", options, CLASSES, tmp_path, 0)) == 4
    assert server.requests == [("GET", "/part_3-4.zip", "bytes=500-"), ("GET", "/cvind.mat", "")]


def test_wrong_checksum_names_the_file(options, server, tmp_path):
    server.resources["/part_1-2.zip"].content += b"x"
    with pytest.raises(UserError, match=r"part_1-2\.zip: the download has MD5 .* and was deleted"):
        download.download("figshare", options, CLASSES, tmp_path, 0)


@pytest.mark.parametrize(("address", "why"), [("missing", "404"), ("closed", "no connection")])
def test_what_cannot_be_reached_is_told_with_the_way_out(options, server, tmp_path, address, why):
    base = server.url if address == "missing" else f"http://127.0.0.1:{closed_port()}"
    options["files"][0]["url"] = f"{base}/gone"
    with pytest.raises(UserError) as error:
        download.download("figshare", options, CLASSES, tmp_path, 0)
    message = str(error.value)
    assert f"{base}/gone" in message
    assert why in message
    assert "data.options.folder" in message
    assert "data=phantom" in message
    assert "\n" not in message


def test_files_placed_by_hand_need_no_server(files, tmp_path):
    folder = write(tmp_path / "by hand", files)
    options = {"files": [], "slices": 4, "folder": str(folder)}
    assert len(download.download("figshare", options, CLASSES, tmp_path / "out", 0)) == 4


def test_unpacked_files_do_as_well(tmp_path):
    folder = write(
        tmp_path / "unpacked", {f"all/{n}.mat": slice_file(n) for n in (1, 2, 3, 4)} | {"cvind.mat": folds()}
    )
    options = {"files": [], "slices": 4, "folder": str(folder)}
    index = download.download("figshare", options, CLASSES, tmp_path / "out", 0)
    assert index["fold"].tolist() == ["3", "1", "1", "5"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("part_3-4.zip", None, "2 slices instead of 4"),
        ("part_3-4.zip", b"PK no zip", r"part_3-4\.zip: damaged archive"),
        ("part_3-4.zip", zipped(4), "3 slices instead of 4"),
        ("cvind.mat", None, r"cvind\.mat is missing"),
        ("cvind.mat", b"no folds", r"cvind\.mat: no list of folds"),
    ],
)
def test_incomplete_folder_is_refused(files, tmp_path, name, content, message):
    write(tmp_path / "by hand", {**files, name: content or b""})
    if content is None:
        (tmp_path / "by hand" / name).unlink()
    options = {"files": [], "slices": 4, "folder": str(tmp_path / "by hand")}
    with pytest.raises(UserError, match=message):
        download.download("figshare", options, CLASSES, tmp_path / "out", 0)


def test_file_that_is_no_slice_is_named(files, tmp_path):
    folder = write(tmp_path / "by hand", {**files, "part_3-4.zip": zipped(3), "4.mat": b"junk"})
    options = {"files": [], "slices": 4, "folder": str(folder)}
    with pytest.raises(UserError, match=r"4\.mat: not a slice of this set"):
        download.download("figshare", options, CLASSES, tmp_path / "out", 0)


def test_missing_folder_is_named(tmp_path):
    options = {"files": [], "slices": 4, "folder": str(tmp_path / "none")}
    with pytest.raises(UserError, match=r"none: no such folder \(data\.options\.folder\)"):
        download.download("figshare", options, CLASSES, tmp_path, 0)


def test_configuration_lists_the_whole_article(root):
    conf = yaml.safe_load((root / "conf/data/figshare.yaml").read_text())
    options = figshare.Options.model_validate(conf["options"])
    assert options.slices == 3064
    assert [file.name for file in options.files][-1] == figshare.FOLDS
    assert all(len(file.md5) == 32 and file.url.startswith("https://") for file in options.files)
    assert conf["classes"] == CLASSES
