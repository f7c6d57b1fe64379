"""A source's images become a checked dataset: rows, files, and skipped images."""

import hashlib

import pandas as pd
import pytest
from pydantic import create_model

from mri.base.errors import UserError
from mri.data import dataset, download, sources
from mri.data.dataset import ImageRecord
from tests.data.sources.sample_files import mask, picture, write

CLASSES = ["glioma", "notumor"]
FILES = {f"{label}/{n:02}.png": picture(100 * i + n) for i, label in enumerate(CLASSES) for n in range(20)}


def fetch(folder, **options):
    options = {"folder": str(folder), "source": "local"} | options
    return download.download("local", options, CLASSES, folder.parent / "out", 0)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "data", FILES)


def skipped(data) -> pd.DataFrame:
    return pd.read_csv(data.parent / "out" / dataset.SKIPPED)


def test_rows_hold_hash_and_size_of_the_stored_file(data):
    write(data, {"glioma/00.png": picture(5, shape=(40, 64))})
    frame = fetch(data)
    row = frame.set_index("id").loc["glioma/00"]
    stored = (data.parent / "out" / row["path"]).read_bytes()
    assert row["sha256"] == hashlib.sha256(stored).hexdigest()
    assert (row["width"], row["height"]) == (64, 40)
    assert list(frame.columns) == dataset.COLUMNS
    pd.testing.assert_frame_equal(dataset.read_index(data.parent / "out"), frame)


def test_nothing_skipped_leaves_an_empty_table(data):
    fetch(data)
    assert skipped(data).columns.tolist() == ["id", "path", "reason"]
    assert len(skipped(data)) == 0


SPOILT = {
    "empty": ({"glioma/03.png": b""}, "the file is empty"),
    "truncated": ({"glioma/03.png": FILES["glioma/03.png"][:300]}, "damaged or truncated"),
    "text": ({"glioma/03.png": b"hello"}, "a text file: give the scan itself"),
    "mask of another size": ({"masks/glioma/03.png": mask((32, 40))}, "masks/glioma/03.png: the mask is 40x32"),
    "unreadable mask": (
        {"masks/glioma/03.png": mask()[:60]},
        "masks/glioma/03.png: the PNG file is damaged or truncated",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_bad_image_is_skipped_listed_and_counted(data, case, capsys):
    files, reason = SPOILT[case]
    frame = fetch(write(data, files))
    assert len(frame) == 39
    assert "glioma/03" not in set(frame["id"])
    row = skipped(data).iloc[0]
    assert (row["id"], row["path"]) == ("glioma/03", "data/glioma/03.png")
    assert reason in row["reason"]
    assert "warning: 1 of 40 images cannot be used" in capsys.readouterr().err
    assert not (data.parent / "out/images/glioma/03.png").exists()


def test_too_many_bad_images_stop_the_run_and_name_the_first(data):
    write(data, {f"glioma/{n:02}.png": b"" for n in (3, 4, 5)})
    with pytest.raises(UserError, match=r"3 of 40 images cannot be used.*data/glioma/03\.png.*empty.*at most 5%"):
        fetch(data)
    assert skipped(data)["id"].tolist() == ["glioma/03", "glioma/04", "glioma/05"]


def test_link_to_nothing_is_skipped_and_listed_rather_than_overlooked(data):
    (data / "glioma/03.png").unlink()
    (data / "glioma/03.png").symlink_to(data / "gone.png")
    assert len(fetch(data)) == 39
    assert skipped(data)["reason"][0].startswith("data/glioma/03.png: cannot be opened (No such file")


class Source:
    """A source module made by a test."""

    Options = create_model("Options", wanted=(int, 1))

    def __init__(self, samples):
        self.samples = samples

    def fetch(self, options, classes, out, seed):
        for sample in self.samples:
            write(out, {sample.path: picture(seed)})
            yield sample


def sample(id: str, label: str) -> ImageRecord:
    return ImageRecord(id=id, path=f"images/{id}.png", label=label, source="made")


def run(monkeypatch, tmp_path, samples, **options):
    monkeypatch.setattr(sources, "load", lambda name: Source(samples))
    return download.download("made", options, CLASSES, tmp_path, 3)


def test_files_that_a_source_writes_stay_where_they_are(monkeypatch, tmp_path):
    frame = run(monkeypatch, tmp_path, [sample("b", "glioma"), sample("a", "notumor")])
    assert frame["path"].tolist() == ["images/a.png", "images/b.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "index.csv", "skipped.csv"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([sample("a", "glioma"), sample("a", "notumor")], r"images/a\.png: duplicate image id 'a'"),
        ([sample("a", "glioma"), sample("b", "tumour")], "class 'tumour' is not one of data.classes"),
        ([sample("a", "glioma")], "no usable image of class 'notumor'"),
        ([], "no usable image of class 'glioma'"),
    ],
)
def test_what_a_source_may_not_yield(monkeypatch, tmp_path, samples, message):
    with pytest.raises(UserError, match=message):
        run(monkeypatch, tmp_path, samples)


def test_unknown_or_wrong_option_lists_the_legal_ones(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"data\.options\.folders of source 'local'.*\(options: folder, source\)"):
        download.download("local", {"folder": "x", "source": "x", "folders": "x"}, CLASSES, tmp_path, 0)
    with pytest.raises(UserError, match=r"data\.options\.wanted of source 'made': Input should be a valid integer"):
        run(monkeypatch, tmp_path, [], wanted="many")


def test_unknown_source_lists_the_legal_ones(tmp_path):
    with pytest.raises(UserError, match=r"unknown data source 'kagle': choose one of brisc, figshare, kaggle, local"):
        download.download("kagle", {}, CLASSES, tmp_path, 0)
