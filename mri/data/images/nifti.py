"""NIfTI-1 and NIfTI-2: one slice, or the slices of a volume."""

from __future__ import annotations

import gzip
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mri.data.images import kinds
from mri.data.images.slices import (
    MAX_PIXELS,
    MAX_SERIES_BYTES,
    MAX_SLICES,
    PLANES,
    Frame,
    Geometry,
    ImageError,
    check_count,
    check_decoded,
    damaged,
    floating,
)

# A volume whose voxels are longer than this along one axis was measured in slices across that axis.
THICK = 1.5
UNORIENTED = "orientation is not in the file (sform and qform are unset): left and right may be swapped"


@dataclass(frozen=True)
class Volume:
    """Voxels of a NIfTI file.

    stored: (I, J, K) as stored. slope, intercept: of the grey levels. affine: (4, 4), voxels to RAS mm. across: axis
    across the slices.
    """

    stored: np.ndarray
    slope: float
    intercept: float
    affine: np.ndarray
    zooms: tuple[float, ...]
    across: int
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return self.stored.shape[self.across]

    def frame(self, index: int, name: str) -> Frame:
        """Return one slice. Raises ImageError when many of its levels are not numbers."""
        rows, columns = (axis for axis in range(3) if axis != self.across)
        offset = np.zeros(3)
        offset[self.across] = index
        geometry = Geometry(
            self.affine[:3, rows],
            self.affine[:3, columns],
            self.affine[:3, :3] @ offset + self.affine[:3, 3],
            self.zooms[rows],
            self.zooms[columns],
        )
        values = self.stored[(slice(None),) * self.across + (index,)]  # `take` would copy all of them
        if (self.slope, self.intercept) != (1, 0):
            values = values * np.float64(self.slope) + self.intercept
        return floating(values, f"NIfTI {self.stored.dtype.name}", name, geometry, notes=self.notes)


def read_slice(data: bytes, name: str) -> Frame:
    """Return the only slice of a NIfTI file. Raises ImageError for a volume, naming how many slices it has."""
    header = _header(data, name)
    shape = header.get_data_shape()
    if sum(length > 1 for length in shape) != 2 or (len(shape) > 3 and max(shape[3:]) > 1):
        count = shape[_across(shape, _zooms(header), _affine(header)[0])] if len(shape) > 2 else 1
        volumes = math.prod(shape[3:])
        size = "x".join(map(str, shape))
        what = f"{volumes} volumes of {count} slices" if volumes > 1 else f"a volume of {count} slices"
        raise ImageError(
            f"{name}: {size} NIfTI is not one 2-D slice but {what}: give a slice, or give the volume to {kinds.PREDICT}"
        )
    if math.prod(shape) > MAX_PIXELS:
        raise ImageError(f"{name}: too many pixels: at most {MAX_PIXELS // 10**6} million")
    _, _, scaled = _scaling(header)
    size = header.get_data_dtype().itemsize
    check_decoded(math.prod(shape), max(size, 8) if scaled else size, name)
    return _volume(data, header, name).frame(0, name)


def read_volume(data: bytes, name: str) -> Volume:
    """Return the voxels of a NIfTI file, of several volumes the first. Raises ImageError for what isn't a volume."""
    header = _header(data, name)
    shape = (*header.get_data_shape(), 1, 1, 1)[:3]
    if math.prod(shape) * header.get_data_dtype().itemsize > MAX_SERIES_BYTES:
        raise ImageError(f"{name}: too many voxels: at most {MAX_SERIES_BYTES // 10**6} MB of grey levels")
    volume = _volume(data, header, name)
    if len(volume) > MAX_SLICES:
        raise ImageError(f"{name}: {len(volume)} slices are too many: at most {MAX_SLICES}")
    check_count(*(length for axis, length in enumerate(shape) if axis != volume.across), name)  # type: ignore[call-arg]
    return volume


def slice_count(data: bytes) -> int:
    """Return how many slices the header of a NIfTI file announces; `data` may be its beginning. 0 for a damaged one."""
    try:
        header = _header(data, "")
    except ImageError:
        return 0
    shape = header.get_data_shape()
    if sum(length > 1 for length in shape[:3]) < 3:
        return 1 if math.prod(shape[3:]) == 1 else 2  # of several times one slice, the first has to be named
    return shape[_across(shape, _zooms(header), _affine(header)[0])]


def _header(data: bytes, name: str) -> Any:
    """The checked header of a NIfTI file, packed or not."""
    import nibabel

    start = kinds.unpacked_start(data) if data.startswith(b"\x1f\x8b") else data[:540]
    magic = kinds.nifti_magic(start)
    header_type = nibabel.Nifti2Header if magic.endswith(b"2") else nibabel.Nifti1Header
    size = header_type.template_dtype.itemsize
    if len(start) < size:
        raise damaged(name, "NIfTI")
    if magic.startswith(b"ni"):
        raise ImageError(
            f"{name}: the header of a NIfTI pair, whose pixels are in its .img: convert both to one .nii file"
        )
    try:
        header = header_type(start[:size], check=False)
        dimensions = int(header["dim"][0])
        shape = header.get_data_shape()
    except Exception:  # whatever it meets in a damaged one
        raise damaged(name, "NIfTI") from None
    if not 1 <= dimensions <= 7 or not shape or min(shape) < 1:
        raise ImageError(f"{name}: a NIfTI file whose header gives no size (dim): write it again")
    _check_levels(header, name)
    offset = float(header["vox_offset"]) or size + 4  # some leave it at 0
    if not size <= offset <= MAX_PIXELS:  # also when it is not a number
        raise damaged(name, "NIfTI")
    return header


def _check_levels(header: Any, name: str) -> None:
    """Refuse what isn't greyscale."""
    code = int(header["datatype"])
    if code in (128, 2304):
        raise ImageError(f"{name}: colour or complex NIfTI (RGB): save the original greyscale volume")
    if code in (32, 1792, 2048):
        raise ImageError(f"{name}: colour or complex NIfTI (complex numbers): save the magnitude as greyscale")
    try:
        kind = header.get_data_dtype().kind
    except Exception:
        kind = ""
    if kind not in ("i", "u", "f") or header.get_data_dtype().itemsize > 8:
        raise ImageError(f"{name}: a NIfTI file of a data type that isn't read (code {code}): save it as float32")


def _scaling(header: Any) -> tuple[float, float, bool]:
    """Slope and intercept of the grey levels, and whether there is any; a slope of 0 means none (NIfTI-1)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        return 1.0, 0.0, False
    return slope, intercept, (slope, intercept) != (1, 0)


def _affine(header: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Voxels to RAS mm: the sform, the qform, or, where neither can be used, what nibabel assumes; and a note on it."""
    for code, form in (("sform_code", header.get_sform), ("qform_code", header.get_qform)):
        try:
            affine = np.asarray(form(), float) if int(header[code]) > 0 else np.full((4, 4), np.nan)
        except Exception:  # a qform whose numbers make no rotation
            continue
        if np.isfinite(affine).all() and abs(np.linalg.det(_unit_columns(affine[:3, :3]))) > 1e-3:
            return affine, ()
    affine = np.diag([-1.0, 1.0, 1.0, 1.0]) * np.array([*_zooms(header), 1.0])
    return affine, (UNORIENTED,)


def _unit_columns(matrix: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(lengths > 0, lengths, 1)


def _zooms(header: Any) -> tuple[float, ...]:
    """Voxel sizes along three axes in mm; 1 where the file gives none."""
    sizes = [abs(float(f"{size:.7g}")) for size in header["pixdim"][1:4]]  # 0.8, not the nearest float32
    return tuple(size if math.isfinite(size) and size > 0 else 1.0 for size in sizes)


def _across(shape: tuple[int, ...], zooms: tuple[float, ...], affine: np.ndarray) -> int:
    """The axis across the slices: the one of length 1, that of much longer voxels, or the one from feet to head."""
    shape = (*shape, 1, 1, 1)[:3]
    if min(shape) == 1:
        return max(axis for axis in range(3) if shape[axis] == 1)
    order = np.argsort(zooms)
    if zooms[order[2]] > THICK * zooms[order[1]]:
        return int(order[2])
    return int(np.argmax(np.abs(_unit_columns(affine[:3, :3]))[PLANES.index("axial")]))


def _volume(data: bytes, header: Any, name: str) -> Volume:
    whole = header.get_data_shape()
    shape = (*whole, 1, 1, 1)[:3]
    dtype = header.get_data_dtype()
    offset = int(header["vox_offset"]) or header.sizeof_hdr + 4
    size = math.prod(shape) * dtype.itemsize
    # Just what the header promises is unpacked: a small file cannot unpack to a large one.
    if data.startswith(b"\x1f\x8b"):
        try:
            stream = _stream(data)
            stream.read(offset)
            stored: bytes | memoryview = stream.read(size)
        except Exception:
            raise damaged(name, "NIfTI") from None
    else:
        stored = memoryview(data)[offset : offset + size]
    if len(stored) < size:
        raise damaged(name, "NIfTI")
    values = np.frombuffer(stored, dtype).reshape(shape, order="F")
    affine, notes = _affine(header)
    zooms = _zooms(header)
    if (others := math.prod(whole[3:])) > 1:
        notes = (*notes, f"the first of {others} volumes")
    slope, intercept, _ = _scaling(header)
    return Volume(values, slope, intercept, affine, zooms, _across(shape, zooms, affine), notes)


def _stream(data: bytes) -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=io.BytesIO(data))
