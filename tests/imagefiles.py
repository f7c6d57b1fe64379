"""Image files made by code: what tests and the fuzzers read, damage and upload."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib

import imagecodecs
import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)


def encode(picture: Image.Image, **options) -> bytes:
    """The bytes of a file, a PNG unless options say otherwise."""
    buffer = io.BytesIO()
    picture.save(buffer, **({"format": "PNG"} | options))
    return buffer.getvalue()


def dicom(stored: np.ndarray, syntax: str = ExplicitVRLittleEndian, **attributes) -> bytes:
    """A small MR slice as a DICOM file; attributes override or, when None, remove."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    bits = stored.dtype.itemsize * 8
    settings = {
        "PatientName": "Doe^Jane",
        "Modality": "MR",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[-2],
        "Columns": stored.shape[-1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PixelData": stored.tobytes(),
    } | attributes
    for keyword, value in settings.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def compressed(levels: np.ndarray, syntax: str, **attributes) -> bytes:
    """A slice of 12 bits as a DICOM file with compressed pixels."""
    encode_frame = {
        JPEGLosslessSV1: lambda: imagecodecs.jpeg8_encode(levels, lossless=True, predictor=1, bitspersample=16),
        JPEGLossless: lambda: imagecodecs.ljpeg_encode(levels, bitspersample=12),
        JPEGExtended12Bit: lambda: imagecodecs.jpeg8_encode(levels, level=98, bitspersample=12),
        JPEGLSLossless: lambda: imagecodecs.jpegls_encode(levels),
        JPEGLSNearLossless: lambda: imagecodecs.jpegls_encode(levels, level=1),
        JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(levels, level=0, codecformat="j2k"),
        JPEG2000: lambda: imagecodecs.jpeg2k_encode(levels, level=0, codecformat="jp2"),
    }[syntax]
    bits = {"BitsStored": 12, "HighBit": 11, "PixelData": encapsulate([encode_frame()])}
    return dicom(levels, syntax=syntax, **(bits | attributes))


def deep_png(channels: list[np.ndarray]) -> bytes:
    """A PNG of 16 bits a sample: grey, grey and alpha, RGB or RGBA."""
    height, width = channels[0].shape
    samples = np.stack(channels, -1).astype(">u2").reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[len(channels)]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def run_length_encoded(data: bytes) -> bytes:
    """A DICOM file with its pixels compressed."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.compress(RLELossless)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def jpeg_dicom(picture: Image.Image, **attributes) -> bytes:
    """A DICOM file with a JPEG in it, which says that it has 64 x 64 pixels unless attributes say otherwise."""
    frame = encapsulate([encode(picture, format="JPEG")])
    return dicom(np.zeros((64, 64), np.uint8), syntax=JPEGBaseline8Bit, **({"PixelData": frame} | attributes))


def nifti(values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def claim_size(data: bytes, width: int, height: int) -> bytes:
    """A PNG whose header claims another size."""
    return data[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29]) + data[33:]


def blank_png(width: int, height: int) -> bytes:
    """A PNG of black pixels, made without holding them: what a few kilobytes can unpack to."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def deflated_bomb(megabytes: int) -> bytes:
    """A DICOM file that would unpack to so much."""
    data = dicom(np.zeros((32, 32), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    start = data.index(DeflatedExplicitVRLittleEndian.encode()) + len(DeflatedExplicitVRLittleEndian)
    start += start % 2
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    zeros = b"".join(packer.compress(bytes(10**6)) for _ in range(megabytes)) + packer.flush()
    return _with_meta_of(data) + zeros


def _with_meta_of(data: bytes) -> bytes:
    """The preamble and the file meta information of a DICOM file."""
    length = struct.unpack("<I", data[140:144])[0]  # of group 2, whose first element is its length
    return data[: 144 + length]


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def sound(side: int = 32) -> dict[str, bytes]:
    """Small files of every kind and colour mode that is read, by name."""
    ramp = np.arange(side * 48, dtype=np.uint32).reshape(side, 48)
    grey = Image.fromarray((ramp % 256).astype(np.uint8))
    pictures = {f"png {mode}": encode(grey.convert(mode)) for mode in ("L", "RGB", "RGBA", "LA", "P", "1")}
    jpegs = {f"jpeg {mode}": encode(grey.convert(mode), format="JPEG") for mode in ("L", "RGB", "CMYK")}
    deep = (40 * ramp).astype(np.uint16)
    plain = dicom(deep, WindowCenter=500, WindowWidth=800, PixelSpacing=[1.0, 2.0])
    return {
        **pictures,
        "png 16 bit": encode(Image.fromarray(deep)),
        "png transparent palette": encode(grey.convert("P"), transparency=3),
        "png animated": encode(grey, save_all=True, append_images=[grey.rotate(90)]),
        **jpegs,
        "jpeg turned": encode(grey, format="JPEG", exif=exif(6)),
        "jpeg progressive": encode(grey.convert("RGB"), format="JPEG", progressive=True),
        "dicom": plain,
        "dicom implicit": dicom(deep, syntax=ImplicitVRLittleEndian, RescaleSlope=2, RescaleIntercept=-7),
        "dicom run-length": run_length_encoded(plain),
        "dicom inverted": dicom((ramp % 256).astype(np.uint8), PhotometricInterpretation="MONOCHROME1"),
        "nifti": nifti(ramp.astype(np.float32)[..., None]),
        "nifti 16 bit": nifti(ramp.astype(np.int16)),
        **{f"tiff {mode}": encode(grey.convert(mode), format="TIFF") for mode in ("L", "RGB", "1")},
        "tiff 16 bit": encode(Image.fromarray(deep), format="TIFF", compression="tiff_deflate"),
        "png 16 bit rgb": deep_png([deep] * 3),
        "bmp": encode(grey, format="BMP"),
        "gif": encode(grey, format="GIF"),
        "webp": encode(grey, format="WEBP"),
        **{
            f"dicom {syntax.name}": compressed((ramp % 4096).astype(np.uint16), syntax)
            for syntax in (JPEGLosslessSV1, JPEGExtended12Bit, JPEGLSLossless, JPEG2000Lossless)
        },
        "dicom deflated": dicom(deep, syntax=DeflatedExplicitVRLittleEndian),
        "dicom big-endian": dicom(deep.astype(">u2"), syntax=ExplicitVRBigEndian),
        "dicom of one frame": enhanced(deep.astype(np.int32)[None]),
        "nifti packed": gzip.compress(nifti(ramp.astype(np.float64)[None]), mtime=0),
    }


def head(shape: tuple[int, int] = (96, 80)) -> np.ndarray:
    """A made axial head as a screen shows it, int16 (H, W), 0 to 1000, with a bright mark on the patient's left.

    The patient's left is on the right, the face at the top; no mirroring or turning leaves it as it is.
    """
    height, width = shape
    y, x = np.mgrid[:height, :width] / np.array([[[height]], [[width]]]) * 2 - 1
    skull = (x / 0.8) ** 2 + (y / 0.9) ** 2
    levels = np.where(skull < 1, 600 - 300 * skull + 40 * np.sin(9 * x + 5 * y), 0)
    levels[(skull < 1) & (skull > 0.85)] = 750
    levels[(x - 0.4) ** 2 + (y + 0.2) ** 2 < 0.02] = 1000
    levels[x**2 + (y + 0.8) ** 2 < 0.005] = 900  # the nose
    return np.rint(levels).astype(np.int16)


def unchanged() -> dict[str, bytes]:
    """Files whose prepared pixels published figures rest on, by name: plain pictures, and scans stored as displayed."""
    levels = head((150, 130))
    grey = Image.fromarray(np.rint(levels * 0.255).astype(np.uint8))
    large = grey.resize((512, 512))
    pictures = {
        **{f"png {mode}": encode(grey.convert(mode)) for mode in ("L", "RGB", "RGBA", "LA", "P", "1")},
        **{f"jpeg {mode}": encode(grey.convert(mode), format="JPEG") for mode in ("L", "RGB", "CMYK")},
        "large png": encode(large),
        "large jpeg": encode(large.convert("RGB"), format="JPEG", quality=90, progressive=True),
        "colour jpeg": encode(Image.merge("RGB", (grey, grey.rotate(3), grey.rotate(5))), format="JPEG"),
        "turned jpeg": encode(grey, format="JPEG", exif=exif(6)),
        "png 16 bit": encode(Image.fromarray(levels.astype(np.uint16))),
        "png palette": encode(grey.convert("P"), transparency=3),
    }
    window = {"WindowCenter": 450, "WindowWidth": 800, "RescaleSlope": 2, "RescaleIntercept": -9}
    stored = levels.astype(np.uint16)
    scans = {
        "dicom": dicom(stored, **window, PixelSpacing=[1.0, 0.8], ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        "dicom without window": dicom(levels),
        "dicom sigmoid": dicom(stored, **window, VOILUTFunction="SIGMOID"),
        "dicom inverted": dicom(stored, **window, PhotometricInterpretation="MONOCHROME1"),
        "dicom run-length": run_length_encoded(dicom(stored, **window)),
        "nifti": nifti(levels[::-1, ::-1].T[..., None].astype(np.float32), np.diag([0.8, 1, 3, 1])),
        "nifti coronal": gzip.compress(nifti(levels[::-1, ::-1].T[:, None])),
    }
    return pictures | scans


# Directions of the body in DICOM's LPS along which a screen's columns and rows number grow, by plane.
DIRECTIONS = {"axial": ([1, 0, 0], [0, 1, 0]), "coronal": ([1, 0, 0], [0, 0, -1]), "sagittal": ([0, 1, 0], [0, 0, -1])}


def turned(shown: np.ndarray, plane: str, crossed: bool, upside_down: bool, mirrored: bool) -> tuple[np.ndarray, list]:
    """How a scanner may store what a screen shows, and the ImageOrientationPatient that says so."""
    right, down = (np.array(vector) for vector in DIRECTIONS[plane])
    if upside_down:
        shown, down = shown[::-1], -down
    if mirrored:
        shown, right = shown[:, ::-1], -right
    if crossed:
        shown, right, down = shown.T, down, right
    return np.ascontiguousarray(shown), [*right.tolist(), *down.tolist()]


def volume(slices: int = 8, shape: tuple[int, int] = (96, 80)) -> np.ndarray:
    """A made head, int16 (slices, H, W), from the feet up as screens show it: every slice is a little brighter."""
    return np.stack([(head(shape) * (0.7 + 0.24 * number / slices)).astype(np.int16) for number in range(slices)])


def series(values: np.ndarray, uid: str = "1.2.3", **attributes) -> dict[str, bytes]:
    """One DICOM file per axial slice, by name, numbered from the head down against their order in space."""
    files = {}
    for number, levels in enumerate(values):
        place = {"ImagePositionPatient": [-40, -48, 3.0 * number], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        known = {"SeriesInstanceUID": uid, "InstanceNumber": len(values) - number, "PixelSpacing": [1, 1]}
        files[f"IM{len(values) - number:06}"] = dicom(levels, **(place | known | attributes))
    return files


def enhanced(values: np.ndarray, **attributes) -> bytes:
    """A multi-frame MR file of axial slices, whose geometry and window are in its functional groups."""
    shared, frames = pydicom.Dataset(), []
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[1, 1], SliceThickness=3)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    for number in range(len(values)):
        frame = pydicom.Dataset()
        frame.PlanePositionSequence = [_item(ImagePositionPatient=[-40, -48, 3.0 * number])]
        frame.FrameVOILUTSequence = [_item(WindowCenter=500 + number, WindowWidth=1001)]
        frame.PixelValueTransformationSequence = [_item(RescaleIntercept=number, RescaleSlope=1, RescaleType="US")]
        frames.append(frame)
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    return dicom(values, NumberOfFrames=len(values), **(groups | attributes))


def _item(**attributes) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def ras(values: np.ndarray) -> np.ndarray:
    """Axial slices as screens show them, (slices, H, W), as the voxels of a NIfTI file with a plain affine."""
    return np.ascontiguousarray(values[:, ::-1, ::-1].transpose(2, 1, 0))


def containers() -> dict[str, bytes]:
    """Small files that hold series, by name."""
    values = volume(3, (32, 24))
    return {
        "series in a zip": zipped(series(values)),
        "series stored in a zip": zipped(series(values), zipfile.ZIP_STORED),
        "multi-frame": enhanced(values),
        "volume": nifti(ras(values)),
        "volume packed": gzip.compress(nifti(np.stack([ras(values)] * 2, -1)), mtime=0),
    }
