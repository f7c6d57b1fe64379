"""Reading and preparing images: the one path from a file to what a network sees, for stages and service alike.

`read` turns any supported file into 8-bit greyscale pixels. Greyscale comes first, because the colour mode of a file
tells which website it came from, and a network must never learn that. `prepare` crops to the head, pads to a square
(never stretches) and resizes with antialiasing.

What `read` does with each kind of file:

- PNG and JPEG, told by their content rather than their name. Colour, palette and CMYK become ITU-R 601 luma, a
  transparent pixel becomes black, 16-bit PNG is scaled between percentiles, an EXIF rotation is applied (a viewer shows
  the picture so), and of several pictures in one file the first counts.
- DICOM: only the attributes named in `DICOM_ATTRIBUTES` are read, so nothing about the patient enters the process. The
  first window of the file is applied when it is usable, otherwise percentiles; MONOCHROME1 is inverted. Multi-frame,
  colour, non-MR files and files with burned-in annotation are refused.
- NIfTI (.nii or .nii.gz) with one slice along any axis, turned to radiological display: patient's right on the left,
  front or top of the head at the top (sagittal: face to the left).

DICOM and NIfTI with oblong pixels are enlarged along the coarser axis until pixels are square.
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage, special

from mri.base.errors import UserError

if TYPE_CHECKING:  # pydicom and nibabel load slowly and few runs need them
    from pydicom import Dataset

# Sixteen times a slice of 1024 x 1024, and more than the 14.7 million of a 5K screen. A file that claims more is
# refused before its pixels are decoded, as kilobytes can unpack to any number of them.
MAX_PIXELS = 4096 * 4096
MAX_BYTES = 100_000_000
# Of the grey levels of a DICOM or NIfTI file: all of these pixels in float32, half as many in float64.
MAX_DECODED_BYTES = 4 * MAX_PIXELS
# Rows that are worked on at a time where a step needs several times the memory of its result.
STRIP = 512
MIN_SIDE = 16
# A head is nearly as long as wide, and `prepare` makes a square of the longer side, which must not be a huge one.
MAX_ASPECT = 4

# Share of the brightest tissue (99th percentile) below which a pixel is background. Noise and ghosts around the head
# reach 8 % in one real slice of ten and 10 % in one of twenty; with 12 % the box cuts not one pixel off the 3,064
# tumour masks of the figshare set.
CONTENT_LEVEL = 0.12
# Content is looked for on a copy reduced to this side: averaging there removes the noise that a threshold would keep.
CONTENT_GRID = 128
# A connected part counts when it has this share of the largest one's area: a hemisphere does, a letter does not.
CONTENT_PART = 0.1

# Grey levels between these percentiles fill 0..255 where a file brings no window of its own.
PERCENTILES = (0.1, 99.9)

DICOM_ATTRIBUTES = [
    *("Modality", "BurnedInAnnotation", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("Rows", "Columns", "PixelSpacing", "PixelAspectRatio", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelData"),
]
# The transfer syntax that compresses the whole file.
DEFLATED = b"1.2.840.10008.1.2.1.99"
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".nii", ".nii.gz")

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom exclusive


class ImageError(UserError):
    """A file that is not a usable image; the message names it, the reason and the remedy."""


def read(source: Path | str | bytes, name: str = "") -> np.ndarray:
    """Greyscale pixels of an image file, uint8 (H, W), 0 black to 255 white.

    source: a path, or the bytes of a file; `name` is what messages call it (the path, or "image", by default).
    Raises ImageError when the file is missing, damaged, of another kind, or refused (see the module's text).
    """
    return _decode(*_load(source, name))[0]


def describe(source: Path | str | bytes, name: str = "") -> dict[str, Any]:
    """What can be told of an image without looking at its content: {width, height (pixels), mode, bytes, mean}.

    mode: how the file stores grey levels, for example "L", "RGB", "P", "I;16", "DICOM MONOCHROME2", "NIfTI float32".
    bytes: size of the file. mean: mean grey level, 0 to 255. Raises ImageError as `read` does.
    """
    data, name = _load(source, name)
    pixels, mode = _decode(data, name)
    height, width = pixels.shape
    return {"width": width, "height": height, "mode": mode, "bytes": len(data), "mean": float(pixels.mean())}


def read_mask(source: Path | str | bytes, shape: tuple[int, int], name: str = "") -> np.ndarray:
    """A tumour mask, bool (H, W), true where the file is not black. Raises ImageError unless its size is `shape`."""
    data, name = _load(source, name)
    mask = _decode(data, name)[0] > 0
    check_mask(mask.shape, shape, name)
    return mask


def check_mask(mask: tuple[int, ...], image: tuple[int, ...], name: str = "mask") -> None:
    """Raise ImageError unless a mask's shape (H, W) is its image's."""
    if mask != image:
        raise ImageError(
            f"{name}: the mask is {mask[1]}x{mask[0]} pixels and its image {image[1]}x{image[0]}: "
            "give the mask the image's size"
        )


def is_picture(data: bytes) -> bool:
    """Whether the bytes begin like a PNG or JPEG file."""
    return data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def content_box(pixels: np.ndarray) -> Box:
    """Where the head is: the box round all large connected parts brighter than the background.

    pixels: uint8 (H, W). The whole frame when nothing stands out (a blank image, a white background).
    The box is exact to one cell of a grid of at most `CONTENT_GRID` cells a side, always outwards.
    """
    height, width = pixels.shape
    factor = math.ceil(max(height, width) / CONTENT_GRID)
    grid = np.asarray(Image.fromarray(pixels).reduce(factor))
    bright = _percentile(grid, 99)
    labels, count = ndimage.label(grid > CONTENT_LEVEL * bright)
    if bright == 0 or count == 0:
        return 0, 0, width, height
    areas = np.bincount(labels.ravel())
    areas[0] = 0  # what is no part
    head = (areas >= CONTENT_PART * areas.max())[labels]
    rows, columns = (np.flatnonzero(head.any(axis=axis)) * factor for axis in (1, 0))
    return int(columns[0]), int(rows[0]), min(int(columns[-1]) + factor, width), min(int(rows[-1]) + factor, height)


def _percentile(levels: np.ndarray, percent: float) -> float:
    """`np.percentile` of uint8 levels, by counting them: every served image waits for it."""
    below = np.bincount(levels.ravel(), minlength=256).cumsum()
    position = (levels.size - 1) * percent / 100
    low, high = (int(np.searchsorted(below, rank, "right")) for rank in (math.floor(position), math.ceil(position)))
    return low + (high - low) * (position % 1)


def prepare(pixels: np.ndarray, size: int) -> np.ndarray:
    """What a network sees of an image: the head, in a square, uint8 (size, size).

    pixels: uint8 (H, W), as `read` returns them. The surroundings of an oblong head are 0. A blank image stays blank.
    """
    return np.array(_resize(_square(pixels, content_box(pixels)), size))


def prepare_mask(mask: np.ndarray, pixels: np.ndarray, size: int) -> np.ndarray:
    """The mask with the geometry that `prepare` gives its image `pixels`, bool (size, size).

    mask: (H, W), non-zero inside the tumour. A cell belongs to the tumour when half of it does; a tumour smaller than
    that keeps the cell it covers most, so no mask vanishes. Raises ImageError when mask and image differ in size.
    """
    check_mask(mask.shape, pixels.shape)
    square = _square(np.where(mask, np.uint8(255), np.uint8(0)), content_box(pixels))
    cover = np.asarray(_resize(square, size))
    return cover >= min(128, max(1, int(cover.max())))


def _square(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The part of `pixels` in `box`, centred on a black square of its longer side."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    square = np.zeros((side, side), dtype=np.uint8)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    square[y : y + bottom - top, x : x + right - left] = pixels[top:bottom, left:right]
    return square


def _resize(square: np.ndarray, size: int) -> Image.Image:
    # Pillow widens the bilinear kernel when it shrinks (antialiasing); unlike bicubic or Lanczos it never overshoots,
    # so no bright rim is drawn where there was none.
    return Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR)


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Grey levels of any scale as uint8 of the same shape: `PERCENTILES` of the finite values become 0 and 255."""
    values = np.asarray(values, dtype=np.float32)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, dtype=np.uint8)
    # It may reorder `finite`, which is a copy already.
    low, high = (float(level) for level in np.percentile(finite, PERCENTILES, overwrite_input=True))
    if high <= low:  # nearly all pixels are equal: percentiles see no contrast, the extremes may
        low, high = float(finite.min()), float(finite.max())
    whole = finite.size == values.size
    del finite  # one copy of a large image at a time
    return _stretch(values if whole else np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)


def _stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as uint8, `low` and below as 0, `high` and above as 255."""
    scaled = np.clip(values, low, high)
    scaled -= low
    scaled *= 255 / max(high - low, 1e-30)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _in_strips(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray, dtype: type) -> np.ndarray:
    """What a function of single pixels makes of values (H, W): some rows at a time, so that its copies stay small."""
    made = np.empty(values.shape, dtype)
    for top in range(0, len(values), STRIP):
        made[top : top + STRIP] = function(values[top : top + STRIP])
    return made


def _load(source: Path | str | bytes, name: str) -> tuple[bytes, str]:
    """The bytes of a file and what to call it."""
    if isinstance(source, bytes):
        data, name = source, name or "image"
    else:
        name = name or str(source)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ImageError(f"{name}: cannot be opened ({error.strerror}): check path and permissions") from None
    if not data:
        raise ImageError(f"{name}: the file is empty (zero bytes): replace or remove it")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name}: {len(data) / 1e6:.0f} MB is too large for a slice: at most {MAX_BYTES // 10**6} MB")
    return data, name


def _decode(data: bytes, name: str) -> tuple[np.ndarray, str]:
    """Pixels, uint8 (H, W), and a description of how the file stores them."""
    decoder = _decoder(data, name)
    try:
        pixels, mode = decoder(data, name)
    except UserError:
        raise
    except Exception as error:  # decoders raise whatever they happen to meet in a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: damaged or truncated ({reason[:200]}): replace or remove it") from error
    size = f"{pixels.shape[1]}x{pixels.shape[0]}"
    if min(pixels.shape) < MIN_SIDE:
        raise ImageError(f"{name}: {size} pixels are too few for a slice: at least {MIN_SIDE} a side are needed")
    if max(pixels.shape) > MAX_ASPECT * min(pixels.shape):
        raise ImageError(f"{name}: {size} is too long and thin for a slice: at most {MAX_ASPECT} to 1")
    return pixels, mode


def _decoder(data: bytes, name: str) -> Any:
    """The function that reads files which begin like this one."""
    if is_picture(data):
        return _decode_picture
    if data[128:132] == b"DICM" or name.lower().endswith((".dcm", ".dicom")):
        return _decode_dicom
    if data.startswith(b"\x1f\x8b") or data[344:348] in (b"n+1\0", b"ni1\0") or data[4:8] in (b"n+2\0", b"ni2\0"):
        return _decode_nifti
    raise ImageError(f"{name}: not a PNG, JPEG, DICOM or NIfTI file: convert it to PNG")


def _check_count(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width}x{height} is too many pixels: at most {MAX_PIXELS // 10**6} million")


def _check_decoded(pixels: int, bytes_each: float, name: str) -> None:
    if pixels * bytes_each > MAX_DECODED_BYTES:
        raise ImageError(
            f"{name}: {pixels * bytes_each / 1e6:.0f} MB of grey levels are too much for a slice: "
            f"at most {MAX_DECODED_BYTES // 10**6} MB"
        )


def _decode_picture(data: bytes, name: str) -> tuple[np.ndarray, str]:
    try:
        picture: Image.Image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except UnidentifiedImageError:  # its own text has a memory address in it
        raise ValueError("unreadable header") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: too many pixels: at most {MAX_PIXELS // 10**6} million") from None
    _check_count(*picture.size, name)
    mode = picture.mode
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if mode.startswith(("I", "F")):
        return to_uint8(np.asarray(picture, np.float32)), mode
    grey = np.empty((picture.height, picture.width), np.uint8)
    for top in range(0, picture.height, STRIP):
        bottom = min(top + STRIP, picture.height)
        grey[top:bottom] = np.asarray(_luma(picture.crop((0, top, picture.width, bottom))))
    return grey, mode


def _luma(picture: Image.Image) -> Image.Image:
    """Of a picture in any colour mode; transparent pixels are black."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    if picture.mode not in ("1", "L", "RGB"):
        picture = picture.convert("RGB")
    return picture.convert("L")


def _decode_dicom(data: bytes, name: str) -> tuple[np.ndarray, str]:
    import pydicom

    if DEFLATED in data:  # pydicom would unpack all of it, however much that is
        raise ImageError(f"{name}: deflated DICOM: save it uncompressed")
    # `force` reads files without the 128-byte preamble too; what is no DICOM then fails the checks.
    dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=list(DICOM_ATTRIBUTES), force=True)
    _check_dicom(dataset, name)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian  # the standard's default
    _check_size(dataset, name)
    dataset.pixel_array_options(index=0)  # not every compressed picture that there may be, whatever NumberOfFrames says
    try:
        stored = dataset.pixel_array
    except (NotImplementedError, RuntimeError) as error:
        syntax = dataset.file_meta.TransferSyntaxUID
        if not syntax.is_compressed:
            raise
        raise ImageError(
            f"{name}: pixels compressed as {syntax.name!r} cannot be decoded: save it uncompressed"
        ) from error
    pixels = _dicom_grey_levels(stored, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    row_mm, column_mm = dataset.get("PixelSpacing") or dataset.get("PixelAspectRatio") or (1, 1)
    return _square_pixels(pixels, float(row_mm), float(column_mm), name), f"DICOM {dataset.PhotometricInterpretation}"


def _check_dicom(dataset: Dataset, name: str) -> None:
    """Refuse what is not one MR slice without text on it."""
    if "PixelData" not in dataset or "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError(f"{name}: not a DICOM image (no pixels in it): give the slice's own file")
    modality = dataset.get("Modality") or "missing"
    if modality != "MR":
        raise ImageError(f"{name}: modality is {modality}, not MR: only magnetic resonance images are read")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ImageError(f"{name}: multi-frame DICOM with {frames} frames: export the slices as single files")
    colour = dataset.get("PhotometricInterpretation", "missing")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or colour not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"{name}: colour DICOM ({colour}): export the original greyscale slice")
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        raise ImageError(
            f"{name}: BurnedInAnnotation is YES, text in the picture may name the patient: export it without annotation"
        )


def _check_size(dataset: Dataset, name: str) -> None:
    """Refuse what decodes to more than a slice, or to another picture than the header says."""
    from pydicom import encaps, uid

    width, height = int(dataset.Columns), int(dataset.Rows)
    _check_count(width, height, name)
    _check_decoded(width * height, dataset.BitsAllocated / 8, name)
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == uid.RLELossless:
        return
    frame = io.BytesIO(encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    try:
        size = Image.open(frame, formats=("JPEG", "JPEG2000")).size
    except UnidentifiedImageError:  # nor can it be decoded
        return
    if size != (width, height):
        claim = f"the header says {width}x{height} and the compressed picture is {size[0]}x{size[1]}"
        raise ImageError(f"{name}: {claim}: export it again")


def _dicom_grey_levels(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Stored values as uint8: rescaled, then through the file's table or first window, else between percentiles."""
    from pydicom.pixels import processing

    values = _without_padding(stored, dataset)

    def rescaled(part: np.ndarray) -> np.ndarray:  # float64, mostly
        return processing.apply_rescale(part, dataset)

    if dataset.get("VOILUTSequence"):
        return to_uint8(_in_strips(lambda part: processing.apply_voi(rescaled(part), dataset), values, np.float32))
    centre, width = (_first(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or not math.isfinite(centre) or not 1 < width < math.inf:
        return to_uint8(_in_strips(rescaled, values, np.float32))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    return _in_strips(lambda part: _window(rescaled(part), centre, width, function), values, np.uint8)


def _window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Values through a DICOM window, uint8 (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return np.rint(255 * special.expit(4 * (values - centre) / width)).astype(np.uint8)
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return _stretch(values, centre - width / 2, centre + width / 2)


def _without_padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Stored values with those outside the scanned field (PixelPaddingValue) set to the darkest scanned one."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None or not (stored != padding).any():
        return stored
    return np.where(stored == padding, stored[stored != padding].min(), stored)


def _first(value: Any) -> float | None:
    """The first of one or several DICOM numbers."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (int, float)) else value[0])


def _decode_nifti(data: bytes, name: str) -> tuple[np.ndarray, str]:
    import nibabel

    stream: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if data.startswith(b"\x1f\x8b") else io.BytesIO(data)
    start = stream.read(540)
    kind = nibabel.Nifti2Header if start[4:7] in (b"n+2", b"ni2") else nibabel.Nifti1Header
    header = kind(start[: kind.template_dtype.itemsize])
    # Exactly what the header promises is decompressed: a small file cannot unpack to a large one.
    stored = nibabel.arrayproxy.ArrayProxy(stream, header)
    _check_nifti(header, (stored.slope, stored.inter) != (1, 0), name)
    values = np.asanyarray(stored)
    mode = f"NIfTI {header.get_data_dtype()}"
    return _radiological(values, header.get_best_affine(), header.get_zooms(), name), mode


def _check_nifti(header: Any, scaled: bool, name: str) -> None:
    """Refuse what is not one greyscale slice. scaled: whether its grey levels become float64."""
    shape = header.get_data_shape()
    if sum(length > 1 for length in shape) != 2 or (len(shape) > 3 and max(shape[3:]) > 1):
        size = "x".join(map(str, shape))
        raise ImageError(f"{name}: {size} NIfTI is not one 2-D slice of one channel: save the slice as its own file")
    dtype = header.get_data_dtype()
    if dtype.names or dtype.kind == "c":
        raise ImageError(f"{name}: colour or complex NIfTI: save the magnitude as greyscale")
    offset = int(header["vox_offset"])
    if math.prod(shape) > MAX_PIXELS or offset > MAX_PIXELS:
        raise ImageError(f"{name}: too many pixels: at most {MAX_PIXELS // 10**6} million")
    _check_decoded(math.prod(shape), max(dtype.itemsize, 8) if scaled else dtype.itemsize, name)


def _radiological(values: np.ndarray, affine: np.ndarray, zooms: tuple[float, ...], name: str) -> np.ndarray:
    """One slice as it is displayed, uint8 (H, W), from voxels and the affine that orients them."""
    from nibabel import orientations

    values = values.reshape((*values.shape, 1)[:3])
    zooms = (*zooms, 1.0)[:3]
    turn = orientations.io_orientation(affine)
    values = orientations.apply_orientation(values, turn)  # now x to the right, y to the front, z to the top
    spacing = [zooms[int(np.flatnonzero(turn[:, 0] == axis)[0])] for axis in range(3)]
    across = values.shape.index(1)
    column_axis, row_axis = (axis for axis in range(3) if axis != across)
    display = np.squeeze(values, axis=across)[::-1, ::-1].T
    return _square_pixels(to_uint8(display), spacing[row_axis], spacing[column_axis], name)


def _square_pixels(pixels: np.ndarray, row_mm: float, column_mm: float, name: str) -> np.ndarray:
    """Pixels of row_mm x column_mm (spacing of rows and of columns) enlarged along the coarser axis to square ones."""
    if not (row_mm > 0 and column_mm > 0) or math.isclose(row_mm, column_mm, rel_tol=0.01):
        return pixels
    height, width = pixels.shape
    unit = min(row_mm, column_mm)
    height, width = round(height * row_mm / unit), round(width * column_mm / unit)
    _check_count(width, height, name)
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
