"""The Kaggle source: the kagglehub client against a local server that answers like Kaggle."""

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest
import yaml
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.local import LocalFileSystem

from mri.base.errors import UserError
from mri.data import download
from mri.data.sources import _folders, kaggle
from tests.data.sources.loopback import Resource, closed_port
from tests.data.sources.sample_files import picture, write

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
API = "/api/v1/datasets.DatasetApiService/DownloadDataset"
HANDLE = "masoudnickparvar/brain-tumor-mri-dataset/versions/1"
FILES = {
    f"{part}/{label}/{part[:2]}-{label[:2]}_{n:04}.jpg": picture(hash_, "JPEG")
    for hash_, (part, label, n) in enumerate(
        (part, label, n) for part, count in (("Training", 3), ("Testing", 2)) for label in CLASSES for n in range(count)
    )
}
COUNTS = {"Training": dict.fromkeys(CLASSES, 3), "Testing": dict.fromkeys(CLASSES, 2)}


def archive(files: dict[str, bytes] = FILES) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


def offer(server, content: bytes, md5: str = "", **behaviour) -> None:
    """Serve an archive: the API redirects to a file store, which sends its MD5 and honours Range."""
    md5 = md5 or base64.b64encode(hashlib.md5(content).digest()).decode()
    headers = {"Accept-Ranges": "bytes", "x-goog-hash": f"crc32c=AAAAAA==,md5={md5}"}
    server.resources["/store/archive.zip"] = Resource(content, headers, **behaviour)
    server.resources[API] = Resource(status=302, headers={"Location": f"{server.url}/store/archive.zip"})


OPTIONS = {"handle": HANDLE, "folder": "", "counts": {}, "bytes": {}, "md5": {}, "accept_changed": False}


def fetch(out: Path, **options):
    return download.download("kaggle", OPTIONS | {"counts": COUNTS} | options, CLASSES, out, 0)


def test_whole_download(kaggle_server, tmp_path):
    offer(kaggle_server, archive())
    index = fetch(tmp_path / "out")
    assert len(index) == 20
    assert index["official_split"].value_counts().to_dict() == {"train": 12, "test": 8}
    first = index[index["id"] == "Testing/glioma/Te-gl_0000"].iloc[0]
    assert (first["label"], first["source"]) == ("glioma", "kaggle")
    assert (tmp_path / "out" / first["path"]).read_bytes() == FILES["Testing/glioma/Te-gl_0000.jpg"]
    assert kaggle_server.requests[0][:2] == ("POST", API)


def test_second_run_asks_nobody(kaggle_server, tmp_path):
    offer(kaggle_server, archive())
    fetch(tmp_path / "one")
    kaggle_server.requests.clear()
    fetch(tmp_path / "two")
    assert kaggle_server.requests == []
    assert (tmp_path / "one/index.csv").read_text() == (tmp_path / "two/index.csv").read_text()


def test_interrupted_download_is_continued(kaggle_server, tmp_path, monkeypatch):
    monkeypatch.setattr("kagglehub.clients.CHUNK_SIZE", 100)
    offer(kaggle_server, archive(), break_after=1000)
    assert len(fetch(tmp_path)) == 20
    assert ("GET", "/store/archive.zip", "bytes=1000-") in kaggle_server.requests


def test_wrong_checksum_is_reported(kaggle_server, tmp_path):
    offer(kaggle_server, archive(), md5=base64.b64encode(bytes(16)).decode())
    with pytest.raises(UserError, match="wrong checksum"):
        fetch(tmp_path)


def test_damaged_archive_is_reported(kaggle_server, tmp_path):
    offer(kaggle_server, b"no archive at all" * 99)
    with pytest.raises(UserError, match="Unsupported archive type"):
        fetch(tmp_path)


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_reported_at_once(kaggle_server, tmp_path, status):
    kaggle_server.resources[API] = Resource(status=status)
    with pytest.raises(UserError, match=f"the server answered {status}"):
        fetch(tmp_path)
    assert len(kaggle_server.requests) == 1


def test_busy_server_is_asked_again(kaggle_server, tmp_path):
    offer(kaggle_server, archive())
    kaggle_server.resources[API].failures = 1
    assert len(fetch(tmp_path)) == 20


def test_no_network_is_told_in_one_line_with_the_ways_out(kaggle_server, tmp_path, monkeypatch):
    from kagglesdk import kaggle_env

    closed = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, closed)
    with pytest.raises(UserError) as error:
        fetch(tmp_path)
    message = str(error.value)
    assert HANDLE in message
    assert "no connection" in message
    assert "data.options.folder" in message
    assert "data=phantom" in message
    assert "\n" not in message


def test_broken_account_file_is_reported(kaggle_server, tmp_path):
    write(tmp_path / "home", {"kaggle.json": b"{oops"})
    with pytest.raises(UserError, match=r"Invalid Kaggle credentials file at .*kaggle\.json"):
        fetch(tmp_path / "out")


def test_files_placed_by_hand_need_no_server(tmp_path):
    folder = write(tmp_path / "by hand", FILES)
    assert len(fetch(tmp_path / "out", folder=str(folder))) == 20


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none: no such folder \(data\.options\.folder\)"):
        fetch(tmp_path, folder=str(tmp_path / "none"))


def files_in(folder: Path) -> list[_folders.File]:
    return _folders.scan(folder, CLASSES)


def options(**values) -> kaggle.Options:
    return kaggle.Options(**OPTIONS | values)


def test_content_as_pinned_differs_in_nothing(tmp_path):
    files = files_in(write(tmp_path, FILES))
    size = sum(len(content) for name, content in FILES.items() if name.startswith("Training"))
    md5 = kaggle.directory_md5([file for file in files if file.split == "train"])
    assert kaggle.compare(files, options(counts=COUNTS, bytes={"Training": size}, md5={"Training": md5})) == []


def test_every_difference_is_listed(tmp_path):
    files = files_in(write(tmp_path, FILES))
    wrong = options(counts={"Training": {"glioma": 4, "notumor": 3}, "Testing": {"pituitary": 7}}, bytes={"Testing": 1})
    differences = kaggle.compare(files, wrong)
    assert differences[:2] == [
        "Training/glioma has 3 files instead of 4",
        "Testing/pituitary has 2 files instead of 7",
    ]
    assert differences[2].endswith("bytes instead of 1")
    assert len(differences) == 3


def test_changed_file_of_equal_size_is_noticed_by_its_hash(tmp_path):
    write(tmp_path, FILES)
    pinned = kaggle.directory_md5([file for file in files_in(tmp_path) if file.split == "train"])
    path = tmp_path / "Training/notumor/Tr-no_0000.jpg"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    differences = kaggle.compare(files_in(tmp_path), options(counts=COUNTS, md5={"Training": pinned}))
    assert len(differences) == 1
    assert differences[0].startswith("Training has the hash ")


def test_hash_of_a_folder_is_the_one_that_dvc_records(tmp_path):
    folder = write(tmp_path / "data", FILES) / "Training"
    local = LocalFileSystem()
    odb = HashFileDB(local, str(tmp_path / "odb"))
    _, _, tree = build(odb, str(folder), local, "md5", dry_run=True)
    files = [file for file in files_in(tmp_path / "data") if file.split == "train"]
    assert kaggle.directory_md5(files) == tree.hash_info.value


def test_different_download_is_refused_unless_accepted(kaggle_server, tmp_path, capsys):
    offer(
        kaggle_server, archive({name: data for name, data in FILES.items() if name != "Testing/glioma/Te-gl_0000.jpg"})
    )
    with pytest.raises(UserError, match=r"Testing/glioma has 1 files instead of 2.*accept_changed=true"):
        fetch(tmp_path / "out")
    assert len(fetch(tmp_path / "out", accept_changed=True)) == 19
    assert "warning: " in capsys.readouterr().err


def test_configuration_pins_what_is_known(root):
    conf = yaml.safe_load((root / "conf/data/kaggle.yaml").read_text())
    pinned = kaggle.Options.model_validate(conf["options"])
    assert pinned.handle.endswith("/versions/1")
    assert sum(pinned.counts["Training"].values()) == 5712
    assert sum(pinned.counts["Testing"].values()) == 1311
    assert json.dumps(conf)  # plain types only
    assert not pinned.accept_changed
