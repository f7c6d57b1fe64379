"""One synthetic head, written in every supported way, must look the same, and no published picture may change."""

import gzip
import hashlib
import io
import json
import sys
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image
from pydicom import uid

from mri.data import images
from tests.imagefiles import (
    compressed,
    deep_png,
    dicom,
    encode,
    enhanced,
    head,
    jpeg_dicom,
    nifti,
    run_length_encoded,
    turned,
    unchanged,
    zipped,
)

LEVELS = head().astype(np.uint16)  # 0 to 1000
FULL = {"WindowCenter": 500.5, "WindowWidth": 1001}
SEEN = np.rint(LEVELS * 0.255)
EIGHT = np.rint(LEVELS * 0.255).astype(np.uint8)
SIGNED = LEVELS.astype(np.int16) - 500
LEFT_OVER = ((SIGNED.view(np.uint16) & 0xFFF) | 0x5000).astype(np.uint16)  # an overlay in the unused bits
# Published figures rest on these: what this reader made of each before it took other kinds.
SUMS = json.loads((Path(__file__).parent / "unchanged.json").read_text())


@pytest.mark.parametrize("kind", SUMS)
def test_pixels_that_published_figures_rest_on_stay_byte_for_byte(kind):
    pixels = images.read(unchanged()[kind])
    content = pixels.tobytes() + str(pixels.shape).encode() + images.prepare(pixels, 96).tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == SUMS[kind]


def bare(data: bytes, implicit: bool) -> bytes:
    """Return a DICOM file without preamble and meta information."""
    buffer = io.BytesIO()
    dataset = pydicom.Dataset({element.tag: element for element in pydicom.dcmread(io.BytesIO(data))})
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def raw_attribute(keyword: str, vr: str, value: bytes, **attributes) -> bytes:
    """Return a DICOM file with an attribute that violates the standard, as some scanners write it."""
    data = dicom(LEVELS, **(FULL | attributes | {keyword: None}))
    dataset = pydicom.dcmread(io.BytesIO(data))
    tag = pydicom.datadict.tag_for_keyword(keyword)
    dataset[tag] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(value), value, 0, False, True, True)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


DICOM_WAYS = {
    "explicit": lambda: dicom(LEVELS, **FULL),
    "implicit": lambda: dicom(LEVELS, syntax=uid.ImplicitVRLittleEndian, **FULL),
    "big-endian": lambda: dicom(LEVELS.astype(">u2"), syntax=uid.ExplicitVRBigEndian, **FULL),
    "deflated": lambda: dicom(LEVELS, syntax=uid.DeflatedExplicitVRLittleEndian, **FULL),
    "run-length": lambda: run_length_encoded(dicom(LEVELS, **FULL)),
    **{
        syntax.name: lambda syntax=syntax: compressed(LEVELS, syntax, **FULL)
        for syntax in (uid.JPEGLosslessSV1, uid.JPEGLossless, uid.JPEGLSLossless, uid.JPEGLSNearLossless)
    },
    **{
        syntax.name: lambda syntax=syntax: compressed(LEVELS, syntax, **FULL)
        for syntax in (uid.JPEG2000Lossless, uid.JPEG2000)
    },
    "signed": lambda: dicom(SIGNED, **FULL | {"WindowCenter": 0.5}),
    "unused bits": lambda: dicom(
        LEFT_OVER, BitsStored=12, HighBit=11, PixelRepresentation=1, **FULL | {"WindowCenter": 0.5}
    ),
    "high bits": lambda: dicom(LEVELS << 4, BitsStored=12, HighBit=15, **FULL),
    "32 bit": lambda: dicom(LEVELS.astype(np.uint32), **FULL),
    "rescaled": lambda: dicom(SIGNED, RescaleSlope=2, RescaleIntercept=1000, WindowCenter=1000.5, WindowWidth=2001),
    "inverted": lambda: dicom(1000 - LEVELS, PhotometricInterpretation="MONOCHROME1", **FULL),
    "no photometric interpretation": lambda: dicom(LEVELS, PhotometricInterpretation=None, **FULL),
    "blank number of frames": lambda: raw_attribute("NumberOfFrames", "IS", b""),
    "comma decimals": lambda: raw_attribute("PixelSpacing", "DS", b"0,5\\0,5 "),
    "one spacing": lambda: raw_attribute("PixelSpacing", "DS", b"0.5 "),
    "spacing as text": lambda: raw_attribute("PixelSpacing", "UT", b"0.5\\0.5 "),
    "without preamble": lambda: bare(dicom(LEVELS, **FULL), False),
    "without preamble, implicit": lambda: bare(dicom(LEVELS, **FULL), True),
    "syntax of another kind in its bytes": lambda: dicom(
        LEVELS, ImageType=["ORIGINAL", "PRIMARY", "1.2.840.10008.1.2.1.99"], **FULL
    ),
    "enhanced of one frame": lambda: enhanced(LEVELS.astype(np.int16)[None]),
}


@pytest.mark.parametrize("way", DICOM_WAYS)
def test_a_head_looks_the_same_in_every_form_of_dicom(way):
    np.testing.assert_allclose(images.read(DICOM_WAYS[way](), "IM000001"), SEEN, atol=1)


def test_lossy_jpeg_in_dicom_looks_nearly_the_same():
    eight = jpeg_dicom(Image.fromarray(EIGHT), Rows=96, Columns=80, WindowCenter=128, WindowWidth=256)
    for data in (compressed(LEVELS, uid.JPEGExtended12Bit, **FULL), eight):
        assert np.abs(images.read(data) - SEEN).mean() < 3


def test_without_its_decoder_the_message_names_the_package(monkeypatch):
    data = DICOM_WAYS[uid.JPEGLSLossless.name]()
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(images.ImageError, match="'JPEG-LS Lossless Image Compression' need the package imagecodecs"):
        images.read(data)


def test_sixteen_bit_pictures_keep_all_their_bits_in_every_colour_mode():
    """The made levels use 10 bits of the 16: the high byte alone would leave four grey levels."""
    opaque = np.full_like(LEVELS, 65535)
    expected = images.to_uint8(LEVELS)
    rgb = np.stack([LEVELS] * 3, -1)
    files = {
        "grey": deep_png([LEVELS]),
        "grey and alpha": deep_png([LEVELS, opaque]),
        "rgb": deep_png([LEVELS] * 3),
        "rgba": deep_png([LEVELS] * 3 + [opaque]),
        **{
            f"tiff {name}": tiff(values, **how)
            for name, values, how in (
                ("grey", LEVELS, {}),
                ("big-endian", LEVELS, {"byteorder": ">"}),
                ("packed", LEVELS, {"compression": "zlib"}),
                ("rgb", rgb, {"photometric": "rgb"}),
                ("rgb big-endian", rgb, {"photometric": "rgb", "byteorder": ">"}),
                ("rgb packed", rgb, {"photometric": "rgb", "compression": "zlib"}),
                ("float", LEVELS.astype(np.float32), {}),
            )
        },
    }
    for name, data in files.items():
        np.testing.assert_array_equal(images.read(data), expected, err_msg=name)
    np.testing.assert_allclose(images.read(tiff(1000 - LEVELS, photometric="miniswhite")), expected, atol=1)
    clear = images.read(deep_png([LEVELS] * 3 + [np.where(LEVELS > 500, 0, 65535).astype(np.uint16)]))
    assert clear[LEVELS > 500].max() == 0 and clear[LEVELS == 450].min() > 0


def tiff(values: np.ndarray, byteorder: str = "<", photometric: str = "minisblack", **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, byteorder=byteorder, photometric=photometric, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "GIF", "PNG"])
def test_eight_bit_pictures_of_every_lossless_kind_read_alike(kind):
    np.testing.assert_array_equal(images.read(encode(Image.fromarray(EIGHT), format=kind)), EIGHT)


def test_webp_reads():
    data = encode(Image.fromarray(EIGHT).convert("RGB"), format="WEBP", lossless=True)
    np.testing.assert_array_equal(images.read(data), EIGHT)


# Orientation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("turn", list(product([False, True], repeat=3)))
def test_the_same_head_is_seen_the_same_way_however_dicom_stores_it(plane, turn):
    stored, directions = turned(LEVELS, plane, *turn)
    shown = images.read_slice(dicom(stored, ImageOrientationPatient=directions, PixelSpacing=[1, 1], **FULL))
    np.testing.assert_allclose(shown.pixels, SEEN, atol=1)
    assert (shown.plane, shown.tilt, shown.notes) == (plane, 0, ())


def test_a_mark_on_the_patients_left_stays_there_in_dicom_and_nifti():
    axial = dicom(np.fliplr(LEVELS).copy(), ImageOrientationPatient=[-1, 0, 0, 0, 1, 0], **FULL)
    voxels = LEVELS[::-1, ::-1].T[..., None].astype(np.float32)  # x to the patient's right
    for pixels in (images.read(axial), images.read(nifti(voxels))):
        assert pixels[:, 40:].max() > 250 > pixels[20:, :40].max()  # the mark is the brightest, left is on the right


def test_an_oblique_slice_is_shown_as_the_nearest_plane_and_that_is_said():
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    shown = images.read_slice(dicom(LEVELS, ImageOrientationPatient=[1, 0, 0, 0, c, s], PixelSpacing=[1, 1], **FULL))
    np.testing.assert_allclose(shown.pixels, SEEN, atol=1)
    assert (shown.plane, shown.tilt) == ("axial", pytest.approx(20))
    assert shown.notes == ("oblique by 20 degrees: shown as axial",)


def test_without_orientation_a_slice_stays_as_stored_and_says_so():
    shown = images.read_slice(dicom(LEVELS, PixelSpacing=[1, 1], **FULL))
    np.testing.assert_allclose(shown.pixels, SEEN, atol=1)
    assert shown.plane == "" and "orientation is not in the file" in shown.notes[0]


def test_letters_of_the_patients_orientation_are_used_where_there_are_no_cosines():
    shown = images.read_slice(
        dicom(np.fliplr(LEVELS).copy(), PatientOrientation=["R", "P"], PixelSpacing=[1, 1], **FULL)
    )
    np.testing.assert_allclose(shown.pixels, SEEN, atol=1)


def test_oblong_pixels_are_squared_along_the_axis_they_lie_on_after_turning():
    stored, directions = turned(LEVELS, "axial", True, False, False)
    shown = images.read_slice(dicom(stored, ImageOrientationPatient=directions, PixelSpacing=[1.0, 2.0], **FULL))
    assert shown.pixels.shape == (192, 80)  # columns of the file are rows of the screen
    assert shown.spacing == 1


@pytest.mark.parametrize("code", [0, 1])
def test_an_sform_that_is_no_rotation_is_not_used(code):
    image = nibabel.Nifti1Image(LEVELS[::-1, ::-1].T[..., None].astype(np.float32), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = code, 0
    for row in "xyz":
        image.header[f"srow_{row}"] = 0 if code else np.nan
    data = image.header.binaryblock + bytes(4) + np.asfortranarray(image.dataobj).tobytes(order="F")
    shown = images.read_slice(data)
    assert any("orientation is not in the file" in note for note in shown.notes)
    np.testing.assert_array_equal(shown.pixels[:, ::-1], images.to_uint8(LEVELS))


def test_a_few_levels_that_are_no_numbers_are_counted():
    values = LEVELS[::-1, ::-1].T[..., None].astype(np.float32)
    values[3, 4], values[5, 6] = np.nan, np.inf
    shown = images.read_slice(nifti(values))
    assert shown.notes == ("2 grey levels that are not numbers (NaN or infinite) are shown black",)


# An independent reader -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["explicit", "big-endian", "signed", "rescaled", "JPEG-LS", "JPEG 2000"])
def test_simpleitk_reads_the_same_levels(way, tmp_path):
    name = next(name for name in DICOM_WAYS if name.startswith(way))
    (tmp_path / "scan.dcm").write_bytes(DICOM_WAYS[name]())
    levels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "scan.dcm")))[0]
    span = levels.max() - levels.min()
    np.testing.assert_allclose(images.read(tmp_path / "scan.dcm"), (levels - levels.min()) * (255 / span), atol=1)


def test_simpleitk_reads_a_nifti_volume_with_the_same_levels_and_places(tmp_path):
    """A screen shows what ITK calls LPS: columns run to the patient's left, rows to the back."""
    path = Path(nibabel.__file__).parent / "tests/data/anatomical.nii"
    series = images.read_series(path)
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    levels = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    low, high = np.percentile(levels, (0.1, 99.9))
    expected = np.clip((levels - low) / (high - low), 0, 1) * 255
    first = round((series.slices[0].position - image.GetOrigin()[2]) / series.spacing)
    for number, one in enumerate(series.slices, first):
        np.testing.assert_allclose(one.pixels, expected[number], atol=1)


# What people send instead --------------------------------------------------------------------------------------------


OTHERS = {
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(50), "a HEIC photo"),
    "AVIF": (b"\0\0\0\x18ftypavif" + bytes(50), "an AVIF picture"),
    "PDF": (b"%PDF-1.7\n" + bytes(50), "a PDF document"),
    "zip": (zipped({"a.dcm": dicom(LEVELS)}), "a zip archive, not one slice"),
    "gzip of text": (gzip.compress(b"hello" * 99), "a gzip file of a text file"),
    "gzip of DICOM": (gzip.compress(dicom(LEVELS)), "a gzip file of a DICOM file: unpack it with `gunzip`"),
    "web page": (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "a web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "`git lfs pull`"),
    "MGZ": (gzip.compress(b"\0\0\0\1\0\0\1\0" + bytes(300)), "`mri_convert scan.mgz scan.nii.gz`"),
    "NRRD": (b"NRRD0004\ntype: short\n", "an NRRD volume"),
    "Analyze": ((348).to_bytes(4, "little") + bytes(344), "an Analyze 7.5 header"),
    "unknown": (bytes(range(7, 250)) * 9, "not a kind of image that is known here"),
    "segmentation": (dicom(EIGHT, Modality="SEG", SOPClassUID=uid.SegmentationStorage), "a DICOM segmentation"),
    "report": (dicom(LEVELS, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), "a DICOM structured report"),
    "map": (dicom(LEVELS, SOPClassUID="1.2.840.10008.5.1.4.1.1.30"), "a DICOM parametric map"),
    "CT": (dicom(LEVELS, Modality="CT"), "modality is CT, not MR (computed tomography)"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_kind_of_file_is_named_with_what_to_do(kind):
    data, why = OTHERS[kind]
    with pytest.raises(images.ImageError) as error:
        images.read(data, "scan")
    assert str(error.value).startswith("scan: ") and why in str(error.value)
    assert str(error.value).count(": ") >= 2  # and a remedy
