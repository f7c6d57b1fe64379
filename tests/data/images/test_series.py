"""Series: slices in anatomical order out of every container, what is left out, and what bounds them."""

import gzip
import os
import time
import zipfile

import numpy as np
import pydicom
import pytest
from PIL import Image

from mri.data import images
from mri.data.images import ImageError
from mri.data.images import series as series_module
from tests.imagefiles import dicom, encode, enhanced, nifti, ras, series, turned, volume, zipped

VALUES = volume()
WINDOW = {"WindowCenter": 500, "WindowWidth": 1001}
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def pixels(read):
    return np.stack([one.pixels for one in read.slices])


def shown():
    """Return the slices after applying the series' window."""
    return np.rint(np.clip((VALUES - 499.5 + 500) / 1000, 0, 1) * 255)


CONTAINERS = {
    "folder": lambda folder: write(folder / "scan", series(VALUES, **WINDOW)),
    "zip": lambda folder: zipped(series(VALUES, **WINDOW)),
    "deeper in a zip": lambda folder: zipped({f"a/b/{name}": data for name, data in series(VALUES, **WINDOW).items()}),
    "multi-frame": lambda folder: enhanced(VALUES, **WINDOW),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_slices_come_from_the_feet_up_with_position_plane_and_spacing(container, tmp_path):
    read = images.read_series(CONTAINERS[container](tmp_path))
    assert [one.position for one in read.slices] == pytest.approx([3.0 * number for number in range(8)])
    assert (read.plane, read.spacing, read.slices[0].spacing, read.left_out) == ("axial", 3, 1, [])
    np.testing.assert_allclose(pixels(read), shown(), atol=1)


def test_a_nifti_volume_gives_the_same_slices_within_its_grey_scale(tmp_path):
    read = images.read_series(nifti(ras(VALUES), AFFINE))
    without_window = images.read_series(write(tmp_path, series(VALUES)))
    np.testing.assert_array_equal(pixels(read), pixels(without_window))
    assert (read.plane, read.spacing) == ("axial", 3)
    assert np.abs(pixels(read) / pixels(read).max() - VALUES / VALUES.max()).max() < 0.02


def test_frames_have_their_own_window_and_rescaling():
    """Every frame of the file has an intercept and a centre larger by its number: all look as stored."""
    np.testing.assert_allclose(pixels(images.read_series(enhanced(VALUES))), shown(), atol=1)


def test_of_several_nifti_volumes_the_first_is_read_and_named():
    values = np.stack([ras(VALUES), ras(VALUES)[::-1]], -1)
    read = images.read_series(gzip.compress(nifti(values, AFFINE)))
    np.testing.assert_array_equal(pixels(read), pixels(images.read_series(nifti(ras(VALUES), AFFINE))))
    assert "the first of 2 volumes" in read.notes


def test_what_is_no_slice_of_the_series_is_left_out_with_its_reason(tmp_path):
    files = series(VALUES, ImageType=["ORIGINAL", "PRIMARY", "M"], **WINDOW)
    place = {"SeriesInstanceUID": "1.2.3", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    blank = dicom(np.zeros((96, 80), np.int16), ImagePositionPatient=[0, 0, 90], **place, **WINDOW)
    noise = np.random.default_rng(0).integers(0, 30, (96, 80)).astype(np.int16)
    others = {
        "localiser": dicom(VALUES[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **place),
        "derived": dicom(VALUES[0], ImageType=["DERIVED", "SECONDARY"], ImagePositionPatient=[0, 0, 40], **place),
        "echo": dicom(VALUES[0], ImagePositionPatient=[-40, -48, 0], InstanceNumber=99, **place),
        "blank": blank,
        "above": dicom(noise, ImagePositionPatient=[0, 0, 93], **place, **WINDOW),
        "other": dicom(VALUES[0], SeriesInstanceUID="1.2.4"),
        "ct": dicom(VALUES[0], Modality="CT"),
        "notes.txt": b"hello",
    }
    read = images.read_series(write(tmp_path, files | others))
    assert len(read.slices) == 8
    reasons = {one.name: one.reason for one in read.left_out}
    expected = {
        "localiser": "a localiser",
        "derived": "a derived image",
        "echo": "another image of the same place",
        "blank": "no head in the picture",
        "above": "no head in it",
        "other": "another series",
        "ct": "modality is CT, not MR",
        "notes.txt": "a text file",
    }
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name], name


def test_a_frame_that_is_damaged_leaves_the_others(tmp_path):
    files = series(VALUES, **WINDOW)
    files["IM000003"] = files["IM000003"][:-200]
    read = images.read_series(write(tmp_path, files))
    assert len(read.slices) == 7
    assert [(one.name, "damaged or truncated" in one.reason) for one in read.left_out] == [("IM000003", True)]


def test_without_positions_instance_numbers_order_the_slices_and_that_is_said(tmp_path):
    read = images.read_series(write(tmp_path, series(VALUES, ImagePositionPatient=None, **WINDOW)))
    np.testing.assert_allclose(pixels(read), shown()[::-1], atol=1)
    assert any("positions are not in the files" in note for note in read.notes)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("turn", [(False, False, False), (True, False, True), (False, True, True), (True, True, False)])
def test_a_series_in_any_plane_and_direction_looks_alike(tmp_path, plane, turn):
    files = {}
    for number, levels in enumerate(VALUES):
        stored, directions = turned(levels, plane, *turn)
        across = {"axial": [0, 0, 1], "coronal": [0, -1, 0], "sagittal": [-1, 0, 0]}[plane]
        place = {"ImagePositionPatient": [3.0 * number * x for x in across], "ImageOrientationPatient": directions}
        files[f"{99 - number}"] = dicom(stored, SeriesInstanceUID="1.2", **place, **WINDOW)
    read = images.read_series(write(tmp_path, files))
    assert read.plane == plane
    np.testing.assert_allclose(pixels(read), shown(), atol=1)


def test_masks_follow_the_slices_of_their_volume():
    marked = VALUES > 900
    image, mask = nifti(ras(VALUES), AFFINE), nifti(ras(marked).astype(np.uint8), np.eye(4))
    read = images.read_series(image)
    np.testing.assert_array_equal(np.stack(images.read_masks(mask, image, read)), marked)
    with pytest.raises(ImageError, match="mask has 80x96x7 voxels and its volume 80x96x8: give it the same shape"):
        images.read_masks(nifti(ras(marked[1:]).astype(np.uint8)), image, read)


def test_nothing_about_the_patient_is_kept_from_functional_groups_or_zips():
    shared = pydicom.Dataset()
    anatomy = pydicom.Dataset()
    anatomy.PatientName = "MARKER^Jane"
    shared.FrameAnatomySequence = [anatomy]
    measures = pydicom.Dataset()
    measures.PixelSpacing, measures.PatientComments = [1, 1], "MARKER"
    shared.PixelMeasuresSequence = [measures]
    names = {"PatientName": "MARKER^Jane", "PatientID": "MARKER", "SeriesInstanceUID": "1.2.77"}
    data = enhanced(VALUES, **names, SharedFunctionalGroupsSequence=[shared])
    parsed = series_module.dicom._dataset(data, "x", (*series_module.dicom.ATTRIBUTES, "SeriesInstanceUID"))
    assert "MARKER" not in str(parsed) and "Pixel Measures Sequence" in str(parsed)
    for read in (images.read_series(data), images.read_series(zipped(series(VALUES, "1.2.77", **names)))):
        assert "MARKER" not in repr(read) and "1.2.77" not in repr(read)


REFUSED = {
    "zip of text": (lambda: zipped({"a.txt": b"hello"}), "no magnetic resonance images in it"),
    "zip in a zip": (lambda: zipped({"a.zip": zipped({"b": dicom(VALUES[0])})}), "a zip in a zip: unpack it first"),
    "zip that leads out": (lambda: zipped({"../a.dcm": dicom(VALUES[0])}), "its path leads out of the zip"),
    "zip bomb": (lambda: zipped({f"{n}": bytes(60_000_000) for n in range(9)}), "unpacks to more than 500 MB"),
    "many files": (lambda: zipped({f"{n}": b"" for n in range(5001)}, zipfile.ZIP_STORED), "5001 files in a zip"),
    "cut zip": (lambda: zipped(series(VALUES))[:-30], "the zip file is damaged or truncated"),
    "many frames": (lambda: dicom(VALUES[0], NumberOfFrames=5000), "5000 frames are too many: at most 1000"),
    "single images": (lambda: zipped({n: encode(Image.fromarray(VALUES[0] > 9)) for n in "ab"}), "2 single images"),
    "large volume": (
        lambda: gzip.compress(nifti(np.broadcast_to(np.int16(0), (600, 600, 700))[..., :1])[:352] + bytes(9)),
        "damaged",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_or_useless_container_is_refused(case):
    data, why = REFUSED[case][0](), REFUSED[case][1]
    with pytest.raises(ImageError, match=why) as error:
        images.read_series(data, "scan.zip")
    assert str(error.value).startswith("scan.zip")
    assert "\n" not in str(error.value)


def test_a_zip_without_a_password_is_needed(tmp_path):
    data = bytearray(zipped(series(VALUES, **WINDOW)))
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1  # the first entry says that it is encrypted
    read = images.read_series(bytes(data))
    assert len(read.slices) == 7
    assert [one.reason for one in read.left_out] == ["encrypted"]


def test_one_slice_makes_a_series_of_one():
    read = images.read_series(dicom(VALUES[0], **WINDOW))
    assert len(read.slices) == 1
    np.testing.assert_allclose(read.slices[0].pixels, shown()[0], atol=1)


def test_names_that_are_not_utf8_or_have_line_breaks_become_one_line(tmp_path):
    path = tmp_path / os.fsdecode(b"scan\xff\n.png")
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError) as error:
        images.read(path)
    assert str(error.value).startswith(f"{tmp_path}/scan\\udcff\\n.png: ")


@pytest.mark.slow
def test_a_series_of_two_hundred_slices_takes_seconds(tmp_path):
    large = volume(200, (512, 512))
    folder = write(tmp_path / "scan", series(large))
    for source in (folder, zipped(series(large), zipfile.ZIP_STORED), nifti(ras(large)), enhanced(large)):
        started = time.perf_counter()
        assert len(images.read_series(source).slices) == 200
        assert time.perf_counter() - started < 10  # 2 to 3 on two cores; the bound is for a busy machine
