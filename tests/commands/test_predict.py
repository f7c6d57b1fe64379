import csv
import gzip
import os
import subprocess
import sys

import numpy as np
import pytest
from fastapi.testclient import TestClient

from mri.base.errors import UserError
from mri.commands.predict import main, predict
from mri.data import images
from mri.inference.package import Package
from tests import packages
from tests.imagefiles import dicom, nifti, ras, series, volume, zipped


@pytest.fixture
def scans(tmp_path):
    """A folder of eighteen images, more than one batch, two of them unreadable."""
    folder = tmp_path / "scans"
    (folder / "deeper").mkdir(parents=True)
    for seed in range(16):
        (folder / ("deeper" if seed % 2 else "") / f"{seed:02}.png").write_bytes(packages.scan(seed % 4))
    (folder / "03 broken.png").write_bytes(b"no picture")
    (folder / "deeper/empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


def rows(file):
    with file.open(newline="") as table:
        return {row["path"]: row for row in csv.DictReader(table)}


def test_the_table_says_what_the_service_answers(package, scans, tmp_path):
    summary = predict(scans, tmp_path / "out.csv", Package(package))
    assert (summary.images, summary.failed) == (16, 2)
    client = TestClient(packages.application(package, tmp_path))
    for path, row in rows(tmp_path / "out.csv").items():
        answer = client.post("/predict", files={"image": (scans / path).read_bytes()})
        if row["error"]:
            assert answer.status_code == 422 and row["label"] == ""
            continue
        body = answer.json()
        assert (row["label"], row["set"].split()) == (body["label"], body["set"])
        assert [float(row[f"p_{name}"]) for name in packages.CLASSES] == pytest.approx(
            list(body["probabilities"].values()), abs=1e-5
        )
        assert row["abstain"] == str(body["abstain"])
        assert row["reasons"].split() == [reason["code"] for reason in body["reasons"]]
        assert row["model"] == body["model"] == "winner"
        assert row["model_version"] == body["model_version"] and len(body["model_version"]) == 12
        assert (row["dataset"], row["data_version"], row["synthetic"]) == ("phantom", "0123456789ab", "True")


def test_every_image_has_its_row_in_order_and_a_bad_one_says_why(package, scans, tmp_path, capsys):
    predict(scans, tmp_path / "out.csv", Package(package), "other")
    table = rows(tmp_path / "out.csv")
    assert list(table) == sorted(table) and len(table) == 18
    bad = {path: row["error"] for path, row in table.items() if row["error"]}
    assert list(bad) == ["03 broken.png", "deeper/empty.jpg"]
    assert bad["03 broken.png"] == "03 broken.png: a text file: give the scan itself: DICOM, NIfTI, PNG, JPEG or TIFF"
    assert {row["model"] for row in table.values() if not row["error"]} == {"other"}
    assert "03 broken.png" in capsys.readouterr().err


def test_the_exit_code_tells_whether_everything_could_be_read(package, scans, tmp_path):
    command = [str(scans), "--out", str(tmp_path / "out.csv"), "--service", str(package)]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    assert len(rows(tmp_path / "out.csv")) == 18
    for bad in ("03 broken.png", "deeper/empty.jpg"):
        (scans / bad).unlink()
    main(command)
    assert len(rows(tmp_path / "out.csv")) == 16


def test_without_a_package_the_published_one_is_named(scans, root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match=r"or take the published one: .* `--service results/kaggle/package`") as caught:
        main([str(scans), "--service", str(scans)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["scans", "--model", "vgg"], "unknown model 'vgg': choose from winner, other"),
        (["scans", "--out", "nowhere/out.csv"], "nowhere/out.csv can't be written"),
        (["scans", "--service", "empty"], "empty holds no packaged model"),
    ],
)
def test_a_wrong_argument_is_one_line(package, scans, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        main(["--service", str(package), *arguments])


def test_series_have_their_slices_in_order_and_a_table_of_their_own(package, tmp_path, capsys):
    folder = tmp_path / "scans"
    files = {f"case/{name}": data for name, data in series(volume(5)).items()}
    files |= {"volume.nii.gz": gzip.compress(nifti(ras(volume(4)), np.diag([1.0, 1.0, 4.0, 1.0]))), "notes.txt": b"x"}
    files |= {"all.zip": zipped(series(volume(3))), "ct.dcm": dicom(volume(1)[0], Modality="CT")}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    main([str(folder), "--out", str(tmp_path / "out.csv"), "--service", str(package)])
    slices = [row for row in rows(tmp_path / "out.csv").values() if row["series"] == "case/IM000001"]
    assert [row["path"] for row in slices] == [f"case/IM{number:06}" for number in (5, 4, 3, 2, 1)]
    assert [row["slice"] for row in slices] == list("12345")
    assert [float(row["position_mm"]) for row in slices] == [0, 3, 6, 9, 12]
    table = rows(tmp_path / "out-series.csv")
    assert {path: (row["plane"], row["slices"], row["spacing_mm"]) for path, row in table.items()} == {
        "all.zip/IM000001": ("axial", "3", "3"),
        "case/IM000001": ("axial", "5", "3"),
        "volume.nii.gz": ("axial", "4", "4"),
    }
    output = capsys.readouterr()
    assert "12 images classified (3 series), 0 could not be read" in output.out
    assert "skipped 2 files: 1 x modality is CT, not MR" in output.err


def test_names_that_are_formulas_or_not_utf8_get_into_the_table_as_text(package, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in (b"=1+1.png", b"scan\xff.png"):
        (folder / os.fsdecode(name)).write_bytes(packages.scan(1))
    predict(folder, tmp_path / "out.csv", Package(package))
    assert list(rows(tmp_path / "out.csv")) == ["'=1+1.png", "scan\\udcff.png"]


def test_an_interrupted_table_says_where_it_ends(package, scans, tmp_path, monkeypatch):
    def interrupted(data, name):
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "read_slice", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(scans, tmp_path / "out.csv", Package(package))
    assert rows(tmp_path / "out.csv")[""]["error"] == "the table ends here: interrupted after 0 rows of 18 files"


def test_the_package_of_the_environment_is_used(package, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRI_SERVICE", str(package))
    with pytest.raises(SystemExit, match="1"):  # for the two bad files
        main([str(scans)])
    assert len(rows(tmp_path / "predictions.csv")) == 18


def test_the_command_needs_no_pytorch(package, scans, root):
    program = (
        "import sys; from mri.commands.predict import main; "
        "main(sys.argv[1:]); sys.exit(9 if 'torch' in sys.modules else 0)"
    )
    for bad in ("03 broken.png", "deeper/empty.jpg"):
        (scans / bad).unlink()
    command = [sys.executable, "-c", program, str(scans), "--service", str(package), "--out", str(scans / "out.csv")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "16 images classified, 0 could not be read" in done.stdout
