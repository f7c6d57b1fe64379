"""Series: the slices of a volume, a multi-frame file, a zip or a folder, in anatomical order."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mri.data.images import dicom, kinds, nifti
from mri.data.images.levels import value_range
from mri.data.images.preparing import CONTENT_LEVEL
from mri.data.images.reading import decode, load, printable
from mri.data.images.slices import (
    MAX_BYTES,
    MAX_SERIES_BYTES,
    MAX_SLICES,
    DamagedError,
    Frame,
    ImageError,
    LeftOut,
    Series,
    Slice,
    check_head,
    check_shape,
    damaged,
    words_only,
)

# Files that a zip may hold.
MAX_FILES = 5000
# Levels that decide which become black and white: as many as this tell the percentiles of a volume.
MAX_SAMPLES = 4_000_000
# Slices closer than this, in mm, lie at the same place.
SAME_PLACE = 0.01
# A slice with less bright area than this share of the largest holds no head: it lies above, below or beside it.
HEAD_AREA = 0.05
# Words of ImageType that mark what was computed from images and is none of the head as it looks.
MAPS = frozenset(
    ("ADC", "FA", "MIP", "MINIP", "MNIP", "PROJECTION IMAGE", "SUBTRACTION", "P", "PHASE", "PHASE MAP", "VELOCITY")
)
LISTINGS = ("dicomdir", "thumbs.db", "desktop.ini")  # beside scans, of no use here


@dataclass(frozen=True)
class File:
    """A file that is read when it is needed. name: what messages call it. data: reads it. start: its first bytes."""

    name: str
    data: Callable[[], bytes]
    start: Callable[[], bytes]
    path: Path | None = None

    def headers(self) -> list[dicom.Header]:
        """Return what a DICOM file tells of its frames; of a file on disk no pixels are read."""
        if self.path is None:
            return dicom.headers(self.data(), self.name)
        with self.path.open("rb") as stream:
            return dicom.headers(stream, self.name)


@dataclass(frozen=True)
class Stack:
    """Slices that belong together, not yet decoded.

    parts: for DICOM, files and the frames in them in anatomical order; empty for a NIfTI volume, which is `file`.
    """

    name: str
    file: File
    parts: list[tuple[File, int]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def files(self) -> list[File]:
        """Return the files that the slices come from."""
        return list({id(file): file for file, _ in self.parts}.values()) or [self.file]


@dataclass(frozen=True)
class Contents:
    """What a folder, a zip or a file holds: single images, stacks of slices, what is neither, and damaged files."""

    images: list[File] = field(default_factory=list)
    stacks: list[Stack] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    damaged: list[LeftOut] = field(default_factory=list)


def read_series(source: Path | str | bytes, name: str = "") -> Series:
    """Return the slices of a volume in anatomical order: of several series the one with most slices.

    source: a folder or a zip of DICOM files, a DICOM file of several frames, a NIfTI volume (of several the first), as
    a path or as bytes; one slice makes a series of one. Slices are uint8, windowed as the file says, or all between the
    same percentiles where it says nothing. Raises ImageError when no slice can be used; whatever isn't is in left_out.
    """
    contents = look(source, name)
    unused = [*contents.damaged, *contents.left_out]
    if contents.stacks:
        largest = max(contents.stacks, key=lambda stack: len(stack.parts) or nifti.slice_count(stack.file.start()))
        series = read_stack(largest)
        others = [file for stack in contents.stacks if stack is not largest for file in stack.files()]
        others += contents.images
        left_out = [LeftOut(file.name, "another series") for file in others]
        return replace(series, left_out=[*series.left_out, *left_out, *unused])
    if len(contents.images) == 1:
        frame = decode(contents.images[0].data(), contents.images[0].name)
        return replace(_series(frame.name, [frame], []), left_out=unused)
    name = printable(name or (str(source) if not isinstance(source, bytes) else "image"))
    if contents.images:
        raise ImageError(f"{name}: {len(contents.images)} single images and no series: give one of them")
    if len(unused) == 1 and unused[0].name == name:
        raise ImageError(f"{name}: {unused[0].reason}")
    why = f" ({unused[0].name}: {unused[0].reason})" if unused else ""
    raise ImageError(f"{name}: no magnetic resonance images in it{why}: give a folder, zip or volume that holds some")


def read_stack(stack: Stack) -> Series:
    """Return the decoded slices of a stack. Raises ImageError when none of them can be used."""
    with words_only(stack.name, "scan"):
        frames, left_out = _usable(_dicom_frames(stack) if stack.parts else _nifti_frames(stack))
    series = _series(stack.name, frames, [*stack.left_out, *left_out], ordered=bool(stack.parts))
    return replace(series, notes=(*stack.notes, *series.notes))


def read_masks(source: Path | bytes, image: Path | bytes, series: Series, name: str = "") -> list[np.ndarray]:
    """Return the masks, bool (H, W), of the slices of `series`, which was read from the NIfTI volume `image`.

    source: a NIfTI volume of the same shape, non-zero inside the tumour. Raises ImageError when its shape is another.
    """
    data, name = load(source, name, MAX_SERIES_BYTES)
    if kinds.kind(data) != kinds.NIFTI:
        raise ImageError(f"{name}: the mask of a NIfTI volume has to be one, too: convert it")
    volume = nifti.read_volume(load(image, "", MAX_SERIES_BYTES)[0], name)
    mask = nifti.read_volume(data, name)
    if mask.stored.shape != volume.stored.shape:
        sizes = ["x".join(map(str, one.stored.shape)) for one in (mask, volume)]
        raise ImageError(f"{name}: the mask has {sizes[0]} voxels and its volume {sizes[1]}: give it the same shape")
    placed = replace(volume, stored=(mask.stored != 0).astype(np.uint8), slope=1.0, intercept=0.0)
    masks = []
    for one in series.slices:
        frame = placed.frame(one.index, name)
        covered = replace(frame, levels=(frame.levels > 0) * np.uint8(255))
        masks.append(covered.show().pixels >= 128)
    return masks


# What is there --------------------------------------------------------------------------------------------------------


def look(source: Path | str | bytes | Sequence[File], name: str = "") -> Contents:
    """Return what a folder, a zip, a file or several files hold, without decoding pixels.

    Files of the folder are named by their path below it. Raises ImageError when the source can't be opened.
    """
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        return _sort(list(source))
    if isinstance(source, bytes):
        return _sort([file_of(source, name or "image")])
    path = Path(source)
    if not path.is_dir():
        load(path, name, MAX_SERIES_BYTES)
        return _sort([file_at(path, name)])
    files = [one for one in sorted(path.rglob("*")) if one.is_file() and not one.name.startswith(".")]
    return _sort([file_at(one, one.relative_to(path).as_posix()) for one in files])


def file_at(path: Path, name: str = "") -> File:
    """Return the file at a path, read when it is needed."""
    name = printable(name or str(path))

    def start() -> bytes:
        try:
            with path.open("rb") as stream:
                return stream.read(64 * kinds.HEAD)
        except OSError as error:
            raise ImageError(f"{name}: cannot be opened ({error.strerror}): check path and permissions") from None

    return File(name, lambda: load(path, name, MAX_SERIES_BYTES)[0], start, path)


def file_of(data: bytes, name: str) -> File:
    """Return a file that is in memory."""
    return File(printable(name), lambda: data, lambda: data[: 64 * kinds.HEAD])


def _sort(files: list[File]) -> Contents:
    """Files by what they are: images, stacks, others."""
    contents = Contents()
    slices: dict[Any, list[tuple[File, int, dicom.Header]]] = {}
    for file in files:
        if Path(file.name).name.lower() in LISTINGS:
            contents.left_out.append(LeftOut(file.name, "only lists or shows the files beside it"))
            continue
        try:
            with words_only(file.name, "scan"):
                _sort_one(file, contents, slices)
        except DamagedError as error:
            contents.damaged.append(LeftOut(file.name, reason(error, file.name)))
        except ImageError as error:
            contents.left_out.append(LeftOut(file.name, reason(error, file.name)))
    for group in slices.values():
        _add_group(group, contents)
    contents.images.sort(key=lambda file: file.name)
    contents.stacks.sort(key=lambda stack: stack.name)
    return contents


def _sort_one(file: File, contents: Contents, slices: dict[Any, list[tuple[File, int, dicom.Header]]]) -> None:
    start = file.start()
    what = kinds.kind(start)
    named_image = file.name.lower().endswith(kinds.SUFFIXES)
    if what == kinds.DICOM:
        for index, header in enumerate(file.headers()):
            folder = "" if header.series or header.frames > 1 else str(Path(file.name).parent)
            alone = file.name if header.frames > 1 else ""
            key = (alone, header.series, folder, header.size, header.directions)
            slices.setdefault(key, []).append((file, index, header))
    elif what == kinds.NIFTI and nifti.slice_count(start) > 1:
        contents.stacks.append(Stack(file.name, file))
    elif what == kinds.ZIP:
        inside = _sort(_zipped(file, contents.left_out))
        for field_of in fields(Contents):
            getattr(contents, field_of.name).extend(getattr(inside, field_of.name))
    elif what in (*kinds.PICTURES, kinds.NIFTI) or named_image:
        contents.images.append(file)
    else:
        raise kinds.refuse(file.name, start, what) if start else ImageError(f"{file.name}: empty (zero bytes)")


def _add_group(group: list[tuple[File, int, dicom.Header]], contents: Contents) -> None:
    """Put the slices of one series and direction in order, as a stack; a single one is an image."""
    name = min(file.name for file, _, _ in group)
    frames = group[0][2].frames > 1
    if len(group) == 1 and not frames:
        contents.images.append(group[0][0])
        return
    if not frames and not group[0][2].series and any(header.position is None for _, _, header in group):
        contents.images.extend(file for file, _, _ in group)  # nothing says that they belong together
        return
    left_out: list[LeftOut] = []
    original = any("ORIGINAL" in header.kind[:1] for _, _, header in group)
    kept = []
    for file, index, header in group:
        why = _unwanted(header, original)
        if why:
            left_out.append(LeftOut(_frame_name(file, index, header), why))
        else:
            kept.append((file, index, header))
    placed = all(header.position is not None for _, _, header in kept)
    kept.sort(key=lambda one: ((one[2].position or 0.0) if placed else 0.0, one[2].order, one[0].name))
    stack = Stack(
        name, group[0][0], [], left_out, () if placed else ("positions are not in the files: in their order",)
    )
    last: float | None = None
    for file, index, header in kept:
        if placed and last is not None and abs((header.position or 0.0) - last) < SAME_PLACE:
            why = "another image of the same place (another echo, time or direction)"
            left_out.append(LeftOut(_frame_name(file, index, header), why))
            continue
        last = header.position
        stack.parts.append((file, index))
    if len(stack.parts) > MAX_SLICES:
        raise ImageError(f"{name}: {len(stack.parts)} slices are too many for a series: at most {MAX_SLICES}")
    if stack.parts:
        contents.stacks.append(stack)
    else:
        contents.left_out.extend(left_out)


def _unwanted(header: dicom.Header, original: bool) -> str:
    """Why an image is no slice of a series; "" when it is one. original: whether the series has original images."""
    if "LOCALIZER" in header.kind:
        return "a localiser"
    computed = sorted(MAPS.intersection(header.kind[2:]))
    if computed:
        return f"a derived image ({computed[0]})"
    return "a derived image" if original and "DERIVED" in header.kind[:1] else ""


def _frame_name(file: File, index: int, header: dicom.Header) -> str:
    return f"{file.name} frame {index + 1}" if header.frames > 1 else file.name


def _zipped(file: File, left_out: list[LeftOut]) -> list[File]:
    """The files in a zip. Raises ImageError for one that is damaged, or unpacks to too many files or bytes."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(file.data()))
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except ImageError:
        raise
    except Exception:  # zipfile raises many kinds
        raise damaged(file.name, "zip") from None
    if len(entries) > MAX_FILES:
        raise ImageError(f"{file.name}: {len(entries)} files in a zip are too many: at most {MAX_FILES}")
    # An entry is never unpacked beyond the size that it states, so that the sum bounds them all.
    if sum(entry.file_size for entry in entries) > MAX_SERIES_BYTES:
        raise ImageError(f"{file.name}: unpacks to more than {MAX_SERIES_BYTES // 10**6} MB: give its series alone")
    files = []
    for entry in entries:
        name = printable(f"{file.name}/{entry.filename}")
        parts = entry.filename.replace("\\", "/").split("/")
        if "__MACOSX" in parts or parts[-1].startswith("."):
            continue
        if ".." in parts or entry.filename.startswith(("/", "\\")) or ":" in parts[0]:
            left_out.append(LeftOut(name, "its path leads out of the zip"))
        elif entry.flag_bits & 1:
            left_out.append(LeftOut(name, "encrypted"))
        else:
            files.append(_entry(archive, entry, name, left_out))
    return [one for one in files if one is not None]


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, left_out: list[LeftOut]) -> File | None:
    def read(most: int = -1) -> bytes:
        try:
            with archive.open(entry) as stream:
                return stream.read(most)
        except Exception:  # a wrong checksum, a stream cut off, a method that isn't supported
            raise damaged(name, "zipped") from None

    if entry.file_size > MAX_SERIES_BYTES:
        return None
    try:
        start = read(64 * kinds.HEAD)
    except ImageError as error:
        left_out.append(LeftOut(name, reason(error, name)))
        return None
    if kinds.kind(start) == kinds.ZIP:
        left_out.append(LeftOut(name, "a zip in a zip: unpack it first"))
        return None
    return File(name, read, lambda: start)


def reason(error: ImageError, name: str) -> str:
    """Return what an error says, without the name that it begins with."""
    return str(error).removeprefix(f"{name}: ")


# Decoding -------------------------------------------------------------------------------------------------------------


def _usable(frames: list[tuple[str, Callable[[], Frame]]]) -> tuple[list[Frame], list[LeftOut]]:
    """The frames that can be decoded, and why others can't. Raises ImageError when none can, or they are too large.

    frames: name, and what decodes it.
    """
    good: list[Frame] = []
    left_out: list[LeftOut] = []
    errors: list[ImageError] = []
    for name, read in frames:
        frame = _attempt(name, read)
        if isinstance(frame, ImageError):
            errors.append(frame)
            left_out.append(LeftOut(name, reason(frame, name)))
            continue
        good.append(frame)
        if sum(one.levels.nbytes for one in good) > 2 * MAX_SERIES_BYTES:  # 16 bits have become float32
            raise ImageError(f"{name}: the series has more than {MAX_SERIES_BYTES // 10**6} MB of grey levels: part it")
    if errors and not good:
        raise errors[0]
    return good, left_out


def _attempt(name: str, read: Callable[[], Frame]) -> Frame | ImageError:
    try:
        with words_only(name, "scan"):
            return read()
    except ImageError as error:
        return error


def _nifti_frames(stack: Stack) -> list[tuple[str, Callable[[], Frame]]]:
    volume = nifti.read_volume(stack.file.data(), stack.name)
    names = [f"{stack.name} slice {number + 1}" for number in range(len(volume))]
    return [(name, partial(volume.frame, number, name)) for number, name in enumerate(names)]


def _dicom_frames(stack: Stack) -> list[tuple[str, Callable[[], Frame]]]:
    """The frames of DICOM files; a file of several is parsed once."""
    file, _ = stack.parts[0]
    if all(other is file for other, _ in stack.parts) and len(stack.parts) > 1:
        frame = dicom.read_frames(file.data(), file.name)
        names = [(index, f"{file.name} frame {index + 1}") for _, index in stack.parts]
        return [(name, partial(frame, index, name)) for index, name in names]
    return [(file.name, partial(_only_frame, file, index)) for file, index in stack.parts]


def _only_frame(file: File, index: int) -> Frame:
    return dicom.read_frames(_bounded(file), file.name)(index, file.name)


def _bounded(file: File) -> bytes:
    data = file.data()
    if len(data) > MAX_BYTES:
        raise ImageError(f"{file.name}: more than {MAX_BYTES // 10**6} MB, too large for a slice")
    return data


def _series(name: str, frames: list[Frame], left_out: list[LeftOut], ordered: bool = False) -> Series:
    """Shown slices in anatomical order, without those that hold no head."""
    limits = _limits(frames)
    slices = []
    why_not: ImageError | None = None
    for index, frame in enumerate(frames):
        shown = replace(frame.show(limits), index=index)
        try:
            check_shape(shown.pixels, shown.name)
            check_head(shown, frame.why_flat)
            slices.append(shown)
        except ImageError as error:
            why_not = why_not or error
            left_out.append(LeftOut(shown.name, reason(error, shown.name)))
    slices = _with_heads(slices, left_out)
    if not slices:
        raise why_not or ImageError(f"{name}: no slice in it shows a head: give another series")
    if not ordered and all(one.position is not None for one in slices):
        slices.sort(key=lambda one: one.position or 0.0)
    common = set(slices[0].notes).intersection(*(one.notes for one in slices))
    notes = tuple(note for note in slices[0].notes if note in common)
    return Series(name, slices, left_out, notes)


def _limits(frames: list[Frame]) -> tuple[float, float] | None:
    """Levels that become black and white in all frames without a window of their own."""
    levels = [frame.levels for frame in frames if not frame.ready]
    if not levels:
        return None
    step = max(1, sum(values.size for values in levels) // MAX_SAMPLES)
    return value_range(np.concatenate([values.ravel()[::step] for values in levels]))


def _with_heads(slices: list[Slice], left_out: list[LeftOut]) -> list[Slice]:
    """The slices in which something of the size of a head is bright; the others are left out."""
    if not slices:
        return slices
    bright = max(float(np.percentile(one.pixels[::4, ::4], 99)) for one in slices)
    areas = [np.count_nonzero(one.pixels > CONTENT_LEVEL * bright) / one.pixels.size for one in slices]
    kept = []
    for one, area in zip(slices, areas, strict=True):
        if area < HEAD_AREA * max(areas):
            left_out.append(LeftOut(one.name, "no head in it"))
        else:
            kept.append(one)
    return kept
