"""What a file is, by its content: the kinds that are read, and those that people send instead, each with its remedy."""

from __future__ import annotations

import re
import struct
import zlib

from mri.data.images.slices import ImageError

PNG, JPEG, TIFF, BMP, WEBP, GIF = "PNG", "JPEG", "TIFF", "BMP", "WebP", "GIF"
PICTURES = (PNG, JPEG, TIFF, BMP, WEBP, GIF)
DICOM, NIFTI, ZIP = "DICOM", "NIfTI", "zip"
UNKNOWN, TEXT, GZIP = "unknown", "text", "gzip"
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *(".dcm", ".dicom", ".ima", ".nii", ".nii.gz"),
)
# How much of a file decides: a tar archive tells itself at byte 257, NIfTI-2 within 540.
HEAD = 1024

PREDICT = "`python -m mri.commands.predict FOLDER`"
TO_DICOM = "export the scan as DICOM or convert it to NIfTI"
UNPACK = "unpack it first"
AS_PNG = "save the picture as PNG"

# Offset, bytes there, kind.
SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"II*\0", TIFF),
    (0, b"MM\0*", TIFF),
    (0, b"II+\0", TIFF),
    (0, b"MM\0+", TIFF),
    (0, b"GIF87a", GIF),
    (0, b"GIF89a", GIF),
    (0, b"PK\x03\x04", ZIP),
    (0, b"PK\x05\x06", ZIP),
    (0, b"\x1f\x8b", GZIP),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"NRRD", "NRRD"),
    (0, b"ObjectType", "MetaImage"),
    (0, b"CDF\x01", "MINC"),
    (0, b"CDF\x02", "MINC"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"MATLAB", "MATLAB"),
    (0, b"MATRIX7", "ECAT"),
    (0, b"mrtrix ", "MRtrix"),
    (0, b"TRACK\0", "tractography"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!", "RAR"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (257, b"ustar", "tar"),
    (0, b"version https://git-lfs", "Git LFS pointer"),
    (0, b"\0\0\0\x01\0", "MGH"),
)
# What to do with each kind that isn't read.
REMEDIES = {
    "JPEG 2000": ("a JPEG 2000 picture", AS_PNG),
    "JPEG XL": ("a JPEG XL picture", AS_PNG),
    "HEIC": ("a HEIC photo", "give the scan itself, or save the picture as PNG"),
    "AVIF": ("an AVIF picture", AS_PNG),
    "video": ("a video", "save the one frame that matters as PNG"),
    "SVG": ("an SVG drawing", "give the scan itself, as DICOM, NIfTI or PNG"),
    "PDF": ("a PDF document", "a report can't be classified: export its scan as DICOM or PNG"),
    "PostScript": ("a PostScript document", "export its scan as DICOM or PNG"),
    "HTML": ("a web page", "the download got a page (a login, an error) instead of the scan: download it again"),
    "Git LFS pointer": ("a Git LFS pointer, not the file itself", "fetch it with `git lfs pull`"),
    "git-annex pointer": ("a git-annex pointer, not the file itself", "fetch it with `git annex get`"),
    "NRRD": ("an NRRD volume", "convert it to NIfTI, for example in 3D Slicer"),
    "MetaImage": ("a MetaImage header", "convert it to NIfTI, for example in 3D Slicer"),
    "MINC": ("a MINC or netCDF file", "convert it with `mnc2nii`"),
    "HDF5": ("an HDF5 file (MINC 2, MATLAB 7.3 or other data)", TO_DICOM),
    "MGH": ("a FreeSurfer MGH volume", "convert it with `mri_convert scan.mgz scan.nii.gz`"),
    "NumPy": ("a NumPy array", "save its slices as PNG, or as NIfTI with their orientation"),
    "MATLAB": ("a MATLAB file", "save its slices as PNG, or as NIfTI with their orientation"),
    "ECAT": ("an ECAT (PET) file", "give a magnetic resonance image"),
    "MRtrix": ("an MRtrix file", "convert it with `mrconvert scan.mif scan.nii.gz`"),
    "tractography": ("a file of nerve fibres", "give the images, not what was computed from them"),
    "Analyze": (
        "an Analyze 7.5 header, which holds no pixels and doesn't tell left from right",
        "convert it and its .img to NIfTI (.nii)",
    ),
    "PAR/REC": ("a Philips PAR header, which holds no pixels", "convert it and its .REC with `parrec2nii` or dcm2niix"),
    "AFNI": ("an AFNI header, which holds no pixels", "convert it with `3dAFNItoNIFTI`"),
    "7z": ("a 7z archive", UNPACK),
    "RAR": ("a RAR archive", UNPACK),
    "bzip2": ("a bzip2 file", UNPACK),
    "xz": ("an xz file", UNPACK),
    "zstd": ("a Zstandard file", UNPACK),
    "tar": ("a tar archive", f"unpack it and give the folder to {PREDICT}"),
    ZIP: ("a zip archive, not one slice", f"unpack it and give a slice, or give it whole to {PREDICT}"),
    "DICOMDIR": ("a DICOMDIR, which only lists the files of a disc", f"give its folder to {PREDICT}"),
    "JSON": ("a JSON text", "give the scan it describes"),
    "XML": ("an XML text", "give the scan it describes"),
    TEXT: ("a text file", "give the scan itself: DICOM, NIfTI, PNG, JPEG or TIFF"),
    UNKNOWN: ("not a kind of image that is known here", "give DICOM, NIfTI, PNG, JPEG, TIFF, BMP or WebP"),
}
BRANDS = {
    "HEIC": (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1"),
    "AVIF": (b"avif", b"avis"),
}
# The value representations that the first element of a DICOM file without a preamble may have.
FIRST_VR = (b"UL", b"OB", b"UI", b"CS", b"SH", b"LO", b"DA", b"TM", b"DT")


def kind(data: bytes) -> str:
    """Return what the first `HEAD` bytes of a file (or all of it) show it to be: a key of REMEDIES or a kind read.

    A gzip file of NIfTI is NIfTI; one of something else is GZIP.
    """
    start = data[:HEAD]
    if is_dicom(start):
        return DICOM
    if nifti_magic(start):
        return NIFTI
    for offset, signature, name in SIGNATURES:
        if start.startswith(signature, offset):
            return _of_gzip(data) if name == GZIP else name
    return _special(start) or _text(start) or UNKNOWN


def refuse(name: str, data: bytes, what: str = "") -> ImageError:
    """Return the error for a file of a kind that isn't read. what: its kind, where known."""
    what = what or kind(data)
    if what == GZIP:
        inner = kind(unpacked_start(data))
        held = REMEDIES[inner][0] if inner in REMEDIES else f"a {inner} file"
        held = "something that is no image known here" if inner == UNKNOWN else held
        remedy = REMEDIES["MGH"][1] if inner == "MGH" else "unpack it with `gunzip` and give what comes out"
        return ImageError(f"{name}: a gzip file of {held}: {remedy}")
    description, remedy = REMEDIES[what]
    return ImageError(f"{name}: {description}: {remedy}")


def is_picture(data: bytes) -> bool:
    """Return whether the bytes begin like a PNG or JPEG file."""
    return data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def is_dicom(data: bytes) -> bool:
    """Return whether the bytes begin like a DICOM file, with or without its preamble of 128 bytes."""
    if data[128:132] == b"DICM" or data[:4] == b"DICM":
        return True
    if data[:2] == b"\0\x08" and data[4:6] in FIRST_VR:  # big-endian
        return True
    group, element = struct.unpack("<HH", data[:4]) if len(data) >= 8 else (0, 0)
    if group not in (2, 8) or element > 0x70:
        return False
    return data[4:6] in FIRST_VR or struct.unpack("<I", data[4:8])[0] <= 128


def nifti_magic(data: bytes) -> bytes:
    """Return what a NIfTI header calls itself (b"n+1", b"ni1", b"n+2", b"ni2"), or b""."""
    magic = data[344:348] if data[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") or len(data) > 348 else b""
    if magic in (b"n+1\0", b"ni1\0"):
        return magic[:3]
    return data[4:7] if data[4:8] in (b"n+2\0", b"ni2\0") else b""


def unpacked_start(data: bytes) -> bytes:
    """Return the first bytes that a gzip file holds; b"" of a damaged one."""
    try:
        return zlib.decompressobj(31).decompress(data[: 64 * HEAD], HEAD)
    except zlib.error:
        return b""


def _of_gzip(data: bytes) -> str:
    return NIFTI if nifti_magic(unpacked_start(data)) else GZIP


def _special(start: bytes) -> str:
    """Kinds that more than their first bytes tell."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WEBP
    if start[:2] == b"BM" and start[14:18] in [size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)]:
        return BMP
    if start[4:8] == b"ftyp":
        return next((name for name, brands in BRANDS.items() if start[8:12] in brands), "video")
    if start[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and len(start) >= 348:
        return "Analyze"
    return ""


def _text(start: bytes) -> str:
    """Which text the bytes are; "" for none."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text or re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]", start):
        return ""
    for pattern, name in (
        (rb"<!doctype html|<html|<head|<body", "HTML"),
        (rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg", "SVG"),
        (rb"<", "XML"),
        (rb"[\[{]", "JSON"),
        (rb"/annex/objects|.{0,40}\.git/annex/objects", "git-annex pointer"),
        (rb"# === data description file|(#.*\s)*# *clinical tryout .*research image export tool", "PAR/REC"),
        (rb"type\s*=\s*(string|integer|float)-attribute", "AFNI"),
    ):
        if re.match(pattern, text, re.DOTALL if name == "SVG" else 0):
            return name
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # not merely cut within a letter
            return TEXT if sum(byte > 126 for byte in start) < len(start) / 10 else ""
    return TEXT
