"""Reading and preparing images: exact pixels of small files in every supported format, and what is refused."""

import gzip
import io
import math
import subprocess
import sys
import warnings
from itertools import permutations
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel import orientations
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless

from mri.data import images
from mri.data.images import ImageError, preparing, reading
from tests.imagefiles import (
    blank_png,
    claim_size,
    deflated_bomb,
    dicom,
    encode,
    exif,
    jpeg_dicom,
    nifti,
    run_length_encoded,
)

REFERENCE = Path(__file__).parents[3] / "data/reference"
RAMP = np.arange(32 * 48, dtype=np.uint32).reshape(32, 48)
GREY = (RAMP % 256).astype(np.uint8)
RESCALED = {"RescaleSlope": 2, "RescaleIntercept": 0}
no_deadline = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


# Pictures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_grey_pictures_of_any_colour_mode_read_alike(mode):
    np.testing.assert_array_equal(images.read(encode(Image.fromarray(GREY).convert(mode))), GREY)


def test_colour_becomes_luma():
    colour = Image.new("RGB", (20, 20), (10, 200, 30))
    colour.putpixel((3, 5), (0, 0, 0))
    assert set(images.read(encode(colour)).ravel()) == {0, round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)}


def test_palette_is_looked_up_rather_than_shown_as_indices():
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([0, 0, 0, 240, 240, 240])
    picture.putpixel((3, 5), 0)
    assert set(images.read(encode(picture)).ravel()) == {0, 240}


def test_transparent_pixels_are_black():
    picture = Image.new("RGBA", (20, 20), (255, 255, 255, 255))
    picture.putpixel((3, 5), (255, 255, 255, 0))
    pixels = images.read(encode(picture))
    assert pixels[5, 3] == 0
    assert pixels.sum() == 255 * 399


def test_transparent_palette_entry_is_black():
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([255, 255, 255, 240, 240, 240])
    picture.putpixel((3, 5), 0)
    pixels = images.read(encode(picture, transparency=0))
    assert pixels[5, 3] == 0
    assert pixels[0, 0] == 240


def test_one_bit_picture_is_black_and_white():
    assert set(images.read(encode(Image.fromarray(GREY > 99))).ravel()) == {0, 255}


def test_cmyk_jpeg_has_the_right_polarity():
    ink = Image.new("CMYK", (32, 32), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (0, 0, 16, 32))
    pixels = images.read(encode(ink, format="JPEG", quality=100))
    assert pixels[:, :12].max() < 10
    assert pixels[:, 20:].min() > 245


def test_sixteen_bit_png_keeps_its_contrast():
    deep = (RAMP * 40).astype(np.uint16)  # 0 to 61,400; a plain conversion would clip nearly all of it to white
    pixels = images.read(encode(Image.fromarray(deep)))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert abs(int(pixels[16, 0]) - 127) <= 1
    assert (np.diff(pixels.ravel().astype(int)) >= 0).all()


def test_exif_rotation_is_applied():
    picture = np.zeros((32, 48), np.uint8)
    picture[:16, :16] = 255  # top left
    pixels = images.read(
        encode(Image.fromarray(picture), format="JPEG", quality=100, exif=exif(6))
    )  # a quarter clockwise
    assert pixels.shape == (48, 32)
    assert pixels[4, 28] > 240  # top right
    assert pixels[4, 4] < 15


def test_bytes_and_path_read_alike(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(GREY)))
    np.testing.assert_array_equal(images.read(path), images.read(path.read_bytes()))


def test_format_is_told_by_content_not_by_name(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(encode(Image.fromarray(GREY)))
    np.testing.assert_array_equal(images.read(path), GREY)


def test_describe_tells_what_a_cheat_would_see():
    data = encode(Image.fromarray(GREY).convert("RGB"))
    assert images.describe(data) == {
        "width": 48,
        "height": 32,
        "mode": "RGB",
        "bytes": len(data),
        "mean": pytest.approx(GREY.mean()),
    }


# What is refused -----------------------------------------------------------------------------------------------------


BAD = {
    "empty": (b"", "empty"),
    "cut png": (encode(Image.fromarray(GREY))[:90], "damaged or truncated"),
    "cut jpeg": (encode(Image.fromarray(GREY), format="JPEG")[:400], "damaged or truncated"),
    "bomb": (claim_size(encode(Image.fromarray(GREY)), 6000, 6000), "too many pixels"),
    "larger bomb": (claim_size(encode(Image.fromarray(GREY)), 60000, 60000), "too many pixels"),
    "long": (blank_png(16, 60_000), "16x60000 is too long and thin"),
    "tiny": (encode(Image.fromarray(GREY[:4])), "48x4 pixels are too few"),
    "multi-frame": (dicom(np.zeros((3, 32, 32), np.uint16), NumberOfFrames=3), "3 frames"),
    "colour": (
        dicom(
            np.zeros((32, 32), np.uint8),
            SamplesPerPixel=3,
            PhotometricInterpretation="RGB",
            PlanarConfiguration=0,
            PixelData=bytes(3 * 32 * 32),
        ),
        "colour DICOM (RGB)",
    ),
    "ct": (dicom(np.zeros((32, 32), np.uint16), Modality="CT"), "modality is CT, not MR"),
    "no modality": (dicom(np.zeros((32, 32), np.uint16), Modality=None), "modality is missing, not MR"),
    "burned in": (dicom(np.zeros((32, 32), np.uint16), BurnedInAnnotation="YES"), "BurnedInAnnotation"),
    "no pixels": (dicom(np.zeros((32, 32), np.uint16), PixelData=None), "no pixels"),
    "compressed beyond us": (
        dicom(RAMP.astype(np.uint16), PixelData=encapsulate([b"junk" * 9]), syntax=JPEGLSLossless),
        "damaged or truncated",
    ),
    "deflated bomb": (deflated_bomb(101), "unpacks to more than 100 MB: too large for a slice"),
    "cut dicom": (dicom(np.ones((32, 32), np.uint16))[:-500], "damaged or truncated"),
    "large dicom": (dicom(np.zeros((32, 32), np.uint16), Rows=9000, Columns=9000), "too many pixels"),
    "volume": (nifti(np.zeros((32, 32, 20), np.float32)), "a volume of 20 slices: give a slice, or give the volume to"),
    "series": (nifti(np.zeros((32, 32, 1, 5), np.float32)), "not one 2-D slice"),
    "channels": (nifti(np.zeros((32, 32, 3), np.uint8)), "a volume of 3 slices"),
    "colour nifti": (nifti(np.zeros((32, 32, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "colour or complex NIfTI"),
    "complex nifti": (nifti(np.zeros((32, 32, 1), np.complex64)), "colour or complex NIfTI"),
    "cut nifti": (nifti(np.ones((32, 32, 1), np.float32))[:-500], "damaged or truncated"),
    "window off the data": (
        dicom(RAMP.astype(np.uint16), WindowCenter=9000, WindowWidth=10),
        "no head in the picture (the window of the file (centre 9000, width 10) lies off its grey levels)",
    ),
    "slope 0": (dicom(RAMP.astype(np.uint16), RescaleSlope=0, RescaleIntercept=1), "rescale slope 0"),
    "blank": (encode(Image.new("L", (64, 64), 7)), "no head in the picture (blank"),
    "mosaic": (
        dicom(RAMP.astype(np.uint16), ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]),
        "a mosaic of many",
    ),
    "mostly no numbers": (nifti(np.where(RAMP % 3, np.nan, RAMP).astype(np.float32)), "67% of its grey levels are not"),
    "animated gif": (
        encode(Image.fromarray(GREY), format="GIF", save_all=True, append_images=[Image.fromarray(GREY[::-1])]),
        "a GIF with several pictures",
    ),
    "pages": (
        encode(Image.fromarray(GREY), format="TIFF", save_all=True, append_images=[Image.fromarray(GREY)]),
        "a TIFF with several pictures",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_refused_in_one_line_that_names_it_and_why(case, tmp_path):
    data, why = BAD[case]
    path = tmp_path / "scan.bin"
    path.write_bytes(data)
    with warnings.catch_warnings(), pytest.raises(ImageError) as error:
        warnings.simplefilter("ignore")  # decoders may warn before they fail
        images.read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert why in message
    assert "\n" not in message


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.png: cannot be opened \(No such file"):
        images.read(tmp_path / "nowhere.png")


def test_file_larger_than_the_limit_is_not_decoded(monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    with pytest.raises(ImageError, match="too large for a slice"):
        images.read(encode(Image.fromarray(GREY)))


def test_compressed_nifti_is_unpacked_no_further_than_its_header_says():
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 1))
    header.set_data_dtype(np.float32)
    bomb = gzip.compress(header.binaryblock + bytes(4))
    with pytest.raises(ImageError, match="too many pixels"):
        images.read(bomb)


PEAK = """
import re, sys
from pathlib import Path
from mri.data import images
from mri.data.images import preparing, reading
from tests.imagefiles import sound

def peak():  # not getrusage's, which begins with that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6

for data in sound().values():
    images.read(data)  # the decoders' own code is not the file's
before = peak()
try:
    print(images.read(sys.argv[1]).size)
except images.ImageError as error:
    print(str(error).partition(": ")[2])
print(peak() - before)
"""


def megabytes(root: Path, path: Path) -> tuple[str, float]:
    """Read a file in a new process; return its pixel count or the error, and the peak memory in MB."""
    done = subprocess.run([sys.executable, "-c", PEAK, path], cwd=root, capture_output=True, text=True, check=True)
    outcome, peak = done.stdout.splitlines()
    return outcome, float(peak)


def halves(side: int, kind: type) -> np.ndarray:
    """Return a large picture, dark above and bright below."""
    values = np.zeros((side, side), kind)
    values[side // 2 :] = 200
    return values


def packed(side: int, kind: type) -> bytes:
    return gzip.compress(nifti(halves(side, kind)[..., None]), 1)


only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@only_linux
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: jpeg_dicom(Image.new("RGB", (10_000, 10_000))), "the compressed picture is 10000x10000"),
        (lambda: jpeg_dicom(Image.new("L", (5000, 5000)), Rows=5000, Columns=5000), "too many pixels"),
        (lambda: packed(5000, np.float64), "too many pixels"),
        (lambda: packed(4096, np.float64), "134 MB of grey levels are too much"),
        (lambda: encode(Image.fromarray(np.zeros((5000, 5000), np.uint16))), "too many pixels"),
        (lambda: encode(Image.new("RGBA", (5000, 5000))), "too many pixels"),
    ],
    ids=["dicom with a larger jpeg", "large dicom", "large nifti", "float64 nifti", "16-bit png", "rgba png"],
)
def test_a_small_file_that_unpacks_to_a_large_picture_is_refused_before_it_does(root, tmp_path, make, why):
    path = tmp_path / "scan"
    path.write_bytes(make())
    assert path.stat().st_size < 3_000_000
    outcome, peak = megabytes(root, path)
    assert why in outcome
    assert peak < 30


@only_linux
@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda side: encode(Image.fromarray(halves(side, np.uint16))), 240),
        (lambda side: encode(Image.fromarray(halves(side, np.uint8)).convert("RGBA")), 150),
        (lambda side: packed(side, np.float32), 240),
        (lambda side: packed(math.isqrt(side**2 // 2), np.float64), 240),
        (lambda side: run_length_encoded(dicom(halves(side, np.uint16), **RESCALED)), 260),
    ],
    ids=["16-bit png", "rgba png", "float32 nifti", "float64 nifti", "dicom"],
)
def test_the_largest_pictures_that_are_read_take_little_memory(root, tmp_path, make, most):
    path = tmp_path / "scan"
    path.write_bytes(make(math.isqrt(images.MAX_PIXELS)))
    outcome, peak = megabytes(root, path)
    assert int(outcome) > 0.49 * images.MAX_PIXELS
    assert peak < most


def test_pictures_of_many_rows_read_like_those_of_few():
    """They are read some rows at a time."""
    deep = np.arange(1300 * 400).reshape(1300, 400) % 4001
    grey = Image.fromarray((deep % 256).astype(np.uint8))
    clear = Image.fromarray((deep % 251).astype(np.uint8))
    seen = images.read(encode(Image.merge("LA", (grey, clear))))
    np.testing.assert_allclose(seen, np.asarray(grey) * (np.asarray(clear) / 255), atol=1)
    slice_ = dicom(deep.astype(np.uint16), **RESCALED, WindowCenter=4000.5, WindowWidth=8001)
    np.testing.assert_allclose(images.read(slice_), deep * 255 / 4000, atol=1)


# DICOM ---------------------------------------------------------------------------------------------------------------


def test_dicom_window_is_applied_after_rescaling():
    stored = (RAMP % 101).astype(np.uint16)
    window = {"RescaleSlope": 2, "RescaleIntercept": -50, "WindowCenter": 50.5, "WindowWidth": 101}
    pixels = images.read(dicom(stored, **window))
    # The standard's linear function is 0 at centre - 0.5 - (width - 1) / 2 = 0 and full at 100.
    expected = np.rint(np.clip((stored * 2.0 - 50) / 100, 0, 1) * 255)
    np.testing.assert_allclose(pixels, expected, atol=1)


def test_dicom_sigmoid_window_is_half_at_its_centre():
    stored = np.full((32, 32), 500, np.uint16)
    stored[0] = 0
    pixels = images.read(dicom(stored, WindowCenter=500, WindowWidth=100, VOILUTFunction="SIGMOID"))
    assert set(pixels.ravel()) == {0, 128}


def test_first_of_several_dicom_windows_counts():
    stored = (RAMP % 101).astype(np.uint16)
    one = images.read(dicom(stored, WindowCenter=50, WindowWidth=101))
    several = images.read(dicom(stored, WindowCenter=[50, 7], WindowWidth=[101, 3]))
    np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 7, "WindowWidth": 0}])
def test_dicom_without_a_usable_window_fills_the_grey_scale(window):
    pixels = images.read(dicom((RAMP * 7).astype(np.int16), **window))
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_monochrome1_is_inverted():
    stored = (RAMP % 256).astype(np.uint8)
    window = {"WindowCenter": 128, "WindowWidth": 256}
    plain = images.read(dicom(stored, **window))
    inverted = images.read(dicom(stored, PhotometricInterpretation="MONOCHROME1", **window))
    np.testing.assert_array_equal(inverted, 255 - plain)


def test_dicom_padding_does_not_flatten_the_scan():
    stored = (RAMP % 100).astype(np.int16)
    padded = stored.copy()
    padded[:8] = -32768
    plain, with_padding = images.read(dicom(stored)), images.read(dicom(padded, PixelPaddingValue=-32768))
    np.testing.assert_array_equal(with_padding[8:], plain[8:])
    assert with_padding[:8].max() == 0


def test_nothing_about_the_patient_is_read_from_a_dicom_file(monkeypatch):
    read, seen = pydicom.dcmread, []
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **kwargs: seen.append(read(*args, **kwargs)) or seen[-1])
    images.read(dicom(RAMP.astype(np.uint16)))
    assert len(seen) == 1
    assert "Modality" in seen[0]
    assert "PatientName" not in seen[0]


def test_dicom_without_preamble_reads_when_its_name_says_so():
    data = dicom(RAMP.astype(np.uint16))
    dataset = pydicom.dcmread(io.BytesIO(data))
    buffer = io.BytesIO()
    bare = pydicom.Dataset({element.tag: element for element in dataset})
    pydicom.dcmwrite(buffer, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert not buffer.getvalue().startswith(data[:132])
    np.testing.assert_array_equal(images.read(buffer.getvalue(), "IM1.dcm"), images.read(data))


def test_of_several_pictures_in_a_dicom_file_that_promises_one_the_first_is_read():
    whole = Image.new("L", (64, 64))
    pictures = []
    for level in (100, 200, 200):
        whole.paste(level, (0, 0, 64, 32))
        pictures.append(encode(whole, format="JPEG"))
    window = {"WindowCenter": 128, "WindowWidth": 256}
    pixels = images.read(jpeg_dicom(Image.new("L", (64, 64)), PixelData=encapsulate(pictures), **window))
    assert (pixels.shape, set(pixels.ravel())) == ((64, 64), {0, 100})


def test_run_length_encoded_dicom_reads_like_the_plain_one():
    data = dicom(RAMP.astype(np.uint16))
    np.testing.assert_array_equal(images.read(run_length_encoded(data)), images.read(data))


def test_messages_of_damaged_files_repeat_word_for_word():
    messages = set()
    for _ in range(2):
        with pytest.raises(ImageError) as error:
            images.read(b"\x89PNG\r\n\x1a\n" + bytes(50))
        messages.add(str(error.value))
    assert messages == {"image: the PNG file is damaged or truncated: replace or remove it"}


def test_oblong_pixels_become_square():
    pixels = images.read(dicom(RAMP.astype(np.uint16), PixelSpacing=[2.0, 1.0]))
    assert pixels.shape == (64, 48)


# NIfTI ---------------------------------------------------------------------------------------------------------------

# A slice as it should be displayed, and the same as RAS voxels of an axial slice (x to the right, y to the front).
DISPLAY = np.zeros((32, 48), np.float32)
DISPLAY[:6, :10], DISPLAY[:6, -5:] = 100, 50
DISPLAY[0, 0], DISPLAY[0, 1] = 101, -1


def expected_display() -> np.ndarray:
    return images.to_uint8(DISPLAY)


@pytest.mark.parametrize(("plane", "across"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_nifti_is_shown_in_radiological_orientation(plane, across):
    ras = np.expand_dims(DISPLAY[::-1, ::-1].T, across)  # columns run against x (or y), rows against y (or z)
    np.testing.assert_array_equal(images.read(nifti(ras)), expected_display())


@given(
    st.sampled_from([0, 1, 2]),
    st.sampled_from(list(permutations(range(3)))),
    st.tuples(*[st.sampled_from([1, -1])] * 3),
)
@no_deadline
def test_nifti_display_does_not_depend_on_how_voxels_are_stored(across, order, flips):
    ras = np.expand_dims(DISPLAY[::-1, ::-1].T, across)
    turn = np.column_stack([order, flips])
    stored = orientations.apply_orientation(ras, turn)
    affine = orientations.inv_ornt_aff(turn, ras.shape)
    np.testing.assert_array_equal(images.read(nifti(stored, affine)), expected_display())


def test_two_dimensional_and_compressed_nifti_read_like_a_slice():
    slice_ = DISPLAY[::-1, ::-1].T
    np.testing.assert_array_equal(images.read(nifti(slice_)), expected_display())
    np.testing.assert_array_equal(images.read(gzip.compress(nifti(slice_[..., None]))), expected_display())


def test_nifti_2_and_scaled_integers_read():
    values = np.rint(DISPLAY[::-1, ::-1].T[..., None]).astype(np.int16)
    np.testing.assert_array_equal(images.read(nibabel.Nifti2Image(values, np.eye(4)).to_bytes()), expected_display())


def test_nifti_spacing_makes_pixels_square():
    affine = np.diag([1.0, 3.0, 1.0, 1.0])  # 1 mm columns, 3 mm rows
    assert images.read(nifti(RAMP.reshape(48, 32, 1).astype(np.float32), affine)).shape == (96, 48)


def test_not_a_number_is_background():
    values = DISPLAY[::-1, ::-1].T[..., None].copy()
    values[20, 10] = np.nan
    pixels = images.read(nifti(values))
    assert pixels[32 - 1 - 10, 48 - 1 - 20] == pixels.min()
    assert pixels.max() == 255


# Grey levels ---------------------------------------------------------------------------------------------------------


def test_to_uint8_maps_percentiles_to_black_and_white():
    levels = images.to_uint8(np.linspace(-5, 5, 1001))
    assert (levels[0], levels[500], levels[1000]) == (0, 128, 255)


@pytest.mark.parametrize("value", [0, 7.5, np.nan, np.inf])
def test_to_uint8_of_a_constant_is_black(value):
    assert not images.to_uint8(np.full((20, 20), value)).any()


def test_to_uint8_keeps_a_lone_bright_pixel_when_all_else_is_equal():
    values = np.zeros((100, 100))
    values[3, 4] = 9
    levels = images.to_uint8(values)
    assert levels[3, 4] == 255
    assert levels.sum() == 255


# Cropping and resizing -----------------------------------------------------------------------------------------------


def head(shape=(200, 240), box=(60, 40, 160, 180), level=120) -> np.ndarray:
    """Return a bright ellipse on black that touches all sides of `box` (left, top, right, bottom)."""
    left, top, right, bottom = box
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = ((x - (left + right) / 2) / ((right - left) / 2)) ** 2 + (
        (y - (top + bottom) / 2) / ((bottom - top) / 2)
    ) ** 2
    return np.where(inside <= 1, level, 0).astype(np.uint8)


def assert_box_near(box, expected, tolerance=4):
    assert np.abs(np.subtract(box, expected)).max() <= tolerance, box


def test_content_box_is_exact_for_a_small_image():
    pixels = np.zeros((60, 80), np.uint8)
    pixels[10:40, 20:70] = 200
    assert images.content_box(pixels) == (20, 10, 70, 40)


def test_content_box_survives_noise_letters_and_a_bright_spot():
    rng = np.random.default_rng(0)
    pixels = np.maximum(head(), np.abs(rng.normal(0, 5, (200, 240)))).astype(np.uint8)
    pixels[2:14, 2:10] = 255  # a letter in the corner
    pixels[100:104, 100:104] = 255
    assert_box_near(images.content_box(pixels), (60, 40, 160, 180))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=300), st.floats(0, 100))
def test_a_percentile_by_counting_is_numpys(levels, percent):
    levels = np.array(levels, np.uint8)
    assert preparing._percentile(levels, percent) == pytest.approx(np.percentile(levels, percent), abs=1e-9)


@pytest.mark.parametrize("level", [25, 120, 255])
def test_content_box_does_not_depend_on_brightness(level):
    assert images.content_box(head(level=level)) == images.content_box(head())


def test_content_box_keeps_both_of_two_large_parts():
    assert_box_near(
        images.content_box(head(box=(20, 40, 100, 180)) + head(box=(130, 40, 220, 180))), (20, 40, 220, 180)
    )


@pytest.mark.parametrize("level", [0, 1, 255])
def test_nothing_to_crop_keeps_the_whole_frame(level):
    assert images.content_box(np.full((50, 70), level, np.uint8)) == (0, 0, 70, 50)


def test_white_background_keeps_the_whole_frame():
    assert images.content_box(255 - head()) == (0, 0, 240, 200)


def test_a_lone_bright_pixel_is_not_content():
    pixels = np.zeros((120, 120), np.uint8)
    pixels[5, 5] = 255
    assert images.content_box(pixels) == (0, 0, 120, 120)


def test_blank_image_stays_blank():
    assert not images.prepare(np.zeros((50, 70), np.uint8), 64).any()


def test_prepare_does_not_stretch():
    prepared = images.prepare(head(box=(80, 20, 140, 180)), 128)  # 60 wide, 160 high
    rows, columns = (np.flatnonzero((prepared > 60).any(axis=axis)) for axis in (1, 0))
    assert len(rows) == pytest.approx(128, abs=4)
    assert len(columns) == pytest.approx(128 * 60 / 160, abs=4)
    assert abs(int(columns[0]) - (127 - int(columns[-1]))) <= 4  # centred
    assert not prepared[:, :30].any()  # what is added is black


def test_prepare_never_brightens():
    prepared = images.prepare(head(level=120), 97)
    assert prepared.max() <= 120
    assert prepared.dtype == np.uint8
    assert prepared.shape == (97, 97)
    assert prepared.flags.writeable


def test_prepare_averages_rather_than_picks_pixels():
    stripes = np.zeros((512, 512), np.uint8)
    stripes[::2] = 200
    prepared = images.prepare(stripes, 128)
    assert prepared[8:-8].min() > 90
    assert prepared[8:-8].max() < 110


@no_deadline
@given(st.integers(0, 2**32 - 1), st.sampled_from([(64, 64), (100, 128), (256, 224)]))
def test_prepare_of_the_mirror_image_is_the_mirrored_result(seed, shape):
    rng = np.random.default_rng(seed)
    left, top = rng.integers(0, shape[1] // 3), rng.integers(0, shape[0] // 3)
    width, height = 2 * rng.integers(8, shape[1] // 4), 2 * rng.integers(8, shape[0] // 4)
    pixels = np.zeros(shape, np.uint8)
    pixels[top : top + height, left : left + width] = rng.integers(100, 255, (height, width))
    np.testing.assert_array_equal(images.prepare(pixels[:, ::-1], 48), images.prepare(pixels, 48)[:, ::-1])


def test_mask_follows_its_image():
    pixels = head(shape=(240, 320), box=(100, 20, 220, 220), level=60)
    mask = head(shape=(240, 320), box=(140, 60, 180, 120)) > 0
    pixels[mask] = 255
    prepared, prepared_mask = images.prepare(pixels, 112), images.prepare_mask(mask, pixels, 112)
    assert prepared_mask.dtype == bool
    bright = prepared > (60 + 255) / 2
    assert (bright & prepared_mask).sum() / (bright | prepared_mask).sum() > 0.97


def test_smallest_tumour_leaves_a_mask():
    pixels = head(shape=(512, 512), box=(10, 10, 500, 500))
    mask = np.zeros((512, 512), bool)
    mask[250, 251] = True
    assert 1 <= images.prepare_mask(mask, pixels, 64).sum() <= 4


def test_empty_mask_stays_empty():
    assert not images.prepare_mask(np.zeros((200, 240), bool), head(), 64).any()


def test_mask_of_another_size_is_refused(tmp_path):
    with pytest.raises(ImageError, match="the mask is 30x20 pixels and its image 240x200"):
        images.prepare_mask(np.zeros((20, 30), bool), head(), 64)
    path = tmp_path / "m.png"
    path.write_bytes(encode(Image.new("1", (30, 20))))
    with pytest.raises(ImageError, match=r"m\.png: the mask is 30x20"):
        images.read_mask(path, (200, 240))


def test_read_mask_takes_everything_but_black_for_tumour():
    mask = np.zeros((20, 30), np.uint8)
    mask[3, 4], mask[5, 6] = 1, 255
    tumour = images.read_mask(encode(Image.fromarray(mask)), (20, 30))
    assert set(zip(*np.nonzero(tumour), strict=True)) == {(3, 4), (5, 6)}


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no real scans in data/reference")
def test_crop_never_cuts_a_tumour_of_real_scans():
    paths = sorted((REFERENCE / "masks").glob("*.png"))[::25]
    for path in paths:
        pixels = images.read(next((REFERENCE / "images").glob(f"{path.stem}.*")))
        mask = images.read_mask(path, pixels.shape)
        left, top, right, bottom = images.content_box(pixels)
        assert mask[top:bottom, left:right].sum() == mask.sum(), path
