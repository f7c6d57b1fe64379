"""pydicom's and nibabel's own test files, which many scanners and converters wrote: each is answered or refused."""

import hashlib
import json
import warnings
from pathlib import Path

import nibabel
import pydicom
import pytest

from mri.data import images

ROOTS = {
    "pydicom": Path(pydicom.__file__).parent / "data/test_files",
    "nibabel": Path(nibabel.__file__).parent / "tests/data",
}
# Path: what comes out. {"plane", "slices", "sum"} of those that are answered, the reason of those that are refused.
TABLE = json.loads((Path(__file__).parent / "library_files.json").read_text())


def outcome(path: Path) -> dict | str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            series = images.read_series(path, path.name)
        except images.ImageError as error:
            return str(error).removeprefix(f"{path.name}: ")
    digest = hashlib.sha256(b"".join(one.pixels.tobytes() for one in series.slices)).hexdigest()[:16]
    return {"plane": series.plane, "slices": len(series.slices), "sum": digest}


@pytest.mark.parametrize("name", TABLE)
def test_a_librarys_file_is_answered_or_refused_with_its_reason(name):
    root, _, relative = name.partition("/")
    assert outcome(ROOTS[root] / relative) == TABLE[name]


def test_the_table_names_every_file():
    suffixes = (".py", ".pyc")
    names = {
        f"{root}/{path.relative_to(folder).as_posix()}"
        for root, folder in ROOTS.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in suffixes
    }
    assert names == set(TABLE)
