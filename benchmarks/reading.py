"""Time reading against the usual ways, and write results/benchmarks/reading.json.

    python -m benchmarks.reading

Synthetic heads, as files on disk. Times are of the processor, so that a busy machine doesn't change them.

- slices: PNG, JPEG and DICOM of 256 and 512 pixels a side, by `mri.data.images.read`; the usual way is Pillow's
  `convert("L")`, and for DICOM pydicom's `pixel_array` with its rescaling and window. Median milliseconds a file.
- series: 200 slices of 512 pixels a side, as a folder or zip of DICOM files, one multi-frame file or one packed NIfTI
  volume, by `mri.data.images.read_series`, each in a process of its own; the usual way is pydicom's for all files of a
  folder, sorted by position. Seconds, and the peak memory of the process in MB.
"""

from __future__ import annotations

import io
import multiprocessing
import re
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom import pixels

from benchmarks import records
from mri.base.cli import Parser, guarded
from mri.data import images

OUT = Path("results/benchmarks/reading.json")
SIDES, REPEATS = (256, 512), 40
SLICES, SIDE, DISTANCE = 200, 512, 1.0


def head(side: int, level: float = 1.0) -> np.ndarray:
    """Return an axial head with noise, uint16 (side, side), 0 to 4095."""
    y, x = np.mgrid[:side, :side] * (2 / side) - 1
    noise = np.random.default_rng(0).normal(0, 40, (side, side))
    inside = (x / 0.75) ** 2 + (y / 0.9) ** 2 < 1
    levels = np.where(inside, level * (2400 + 900 * np.sin(9 * x + 5 * y)), 60) + noise
    return np.clip(levels, 0, 4095).astype(np.uint16)


def dicom(levels: np.ndarray, number: int = 0, **attributes: Any) -> bytes:
    """Return an MR file of one slice, or of the frames that `attributes` describe."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.MRImageStorage, f"1.2.3.{number + 1}"
    dataset.Modality, dataset.SeriesInstanceUID, dataset.InstanceNumber = "MR", "1.2.3", number
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PixelRepresentation = "MONOCHROME2", 1, 0
    dataset.Rows, dataset.Columns = levels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.WindowCenter, dataset.WindowWidth = 2000, 4000
    dataset.PixelSpacing, dataset.ImageOrientationPatient = [0.5, 0.5], [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-128, -128, DISTANCE * number]
    dataset.PixelData = levels.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def place(number: int) -> pydicom.Dataset:
    """Return the functional group that says where a frame lies."""
    group, item = pydicom.Dataset(), pydicom.Dataset()
    item.ImagePositionPatient = [-128, -128, DISTANCE * number]
    group.PlanePositionSequence = [item]
    return group


def usual_picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def usual_dicom(path: Path) -> np.ndarray:
    dataset = pydicom.dcmread(path)
    windowed = pixels.apply_windowing(pixels.apply_rescale(dataset.pixel_array, dataset), dataset)
    return (255 * (windowed - windowed.min()) / np.ptp(windowed)).astype(np.uint8)


def usual_series(folder: Path) -> list[np.ndarray]:
    datasets = [pydicom.dcmread(path) for path in folder.iterdir()]
    datasets.sort(key=lambda dataset: float(dataset.ImagePositionPatient[2]))
    return [pixels.apply_windowing(pixels.apply_rescale(one.pixel_array, one), one) for one in datasets]


def slices(folder: Path) -> dict[str, dict[str, float]]:
    """Write a file of each kind and size, and time both ways of reading it."""
    times = {}
    for side in SIDES:
        levels = head(side)
        picture = Image.fromarray((levels >> 4).astype(np.uint8))
        for kind in ("png", "jpeg", "dicom"):
            path = folder / f"{side}.{kind}"
            picture.save(path) if kind != "dicom" else path.write_bytes(dicom(levels))
            usual = usual_dicom if kind == "dicom" else usual_picture
            ours, theirs = alternately(lambda path=path: images.read(path), lambda path=path, usual=usual: usual(path))  # type: ignore[misc]
            times[f"{kind}_{side}"] = {"ms": ours, "usual_ms": theirs, "ratio": ours / theirs}
    return times


def alternately(*ways: Callable[[], Any]) -> list[float]:
    """Return the median processor time of each way in milliseconds, timed in turn."""
    measured: list[list[float]] = [[] for _ in ways]
    for _ in range(REPEATS):
        for way, times in zip(ways, measured, strict=True):
            started = time.process_time()
            way()
            times.append(1000 * (time.process_time() - started))
    return [statistics.median(times) for times in measured]


def write_series(folder: Path) -> dict[str, Path]:
    """Write one series in every container, and return where."""
    volume = np.stack([head(SIDE, 0.6 + 0.4 * number / SLICES) for number in range(SLICES)])
    single = folder / "folder"
    single.mkdir()
    with zipfile.ZipFile(folder / "zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, levels in enumerate(volume):
            data = dicom(levels, number)
            (single / f"IM{number:06}").write_bytes(data)
            archive.writestr(f"IM{number:06}", data)
    places = [place(number) for number in range(SLICES)]
    frames = dicom(volume, NumberOfFrames=SLICES, PerFrameFunctionalGroupsSequence=places)
    (folder / "multi_frame").write_bytes(frames)
    voxels = np.ascontiguousarray(volume[:, ::-1, ::-1].transpose(2, 1, 0)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, DISTANCE, 1])), folder / "nifti.nii.gz")
    (folder / "nifti.nii.gz").rename(folder / "nifti")
    return {name: folder / name for name in ("folder", "zip", "multi_frame", "nifti")} | {"usual": single}


def read_series(name: str, path: Path) -> dict[str, float]:
    """Read a series and return what it cost. Alone in a process, whose peak memory this is."""
    started, wall = time.process_time(), time.perf_counter()
    read = usual_series(path) if name == "usual" else images.read_series(path).slices
    seconds, wall = time.process_time() - started, time.perf_counter() - wall
    if len(read) != SLICES:
        raise AssertionError(f"{name}: {len(read)} of {SLICES} slices")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {"seconds": seconds, "wall_seconds": wall, "peak_mb": int(peak[1]) / 1024 if peak else 0.0}


def main() -> None:
    Parser("benchmarks.reading", __doc__).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        times = slices(Path(temporary))
        series = {}
        for name, path in write_series(Path(temporary)).items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                series[name] = pool.submit(read_series, name, path).result()
    content = {"slices": times, "series": {"slices": SLICES, "side_px": SIDE, **series}}
    records.write("benchmarks.reading", content, OUT)
    ours = [row for name, row in series.items() if name != "usual"]
    slowest, largest = max(row["seconds"] for row in ours), max(row["peak_mb"] for row in ours)
    print(
        f"a slice takes {min(row['ratio'] for row in times.values()):.2f} to "
        f"{max(row['ratio'] for row in times.values()):.2f} times as long as the usual way; "
        f"a series at most {slowest:.1f} s and {largest:.0f} MB"
    )


if __name__ == "__main__":
    guarded(main)
