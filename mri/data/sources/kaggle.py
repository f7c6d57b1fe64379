"""Brain Tumor MRI Dataset (M. Nickparvar, Kaggle), the set that most published work uses.

It combines slices of the figshare set, SARTAJ and Br35H in four classes; its test part overlaps its training part, and
the audit measures by how much. A download is compared with the counts, sizes and hashes pinned in
conf/data/kaggle.yaml; other content is another dataset, and used only with `accept_changed`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mri.base.errors import UserError
from mri.data.dataset import ImageRecord
from mri.data.sources import _folders, _kagglehub


class Options(BaseModel):
    """The options in conf/data/kaggle.yaml.

    handle: dataset and version. folder: files placed by hand instead ("" downloads them).
    counts: files per part and class. bytes, md5: size and DVC's directory hash of a part, where known.
    accept_changed: use files that differ from these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: str
    folder: str
    counts: dict[str, dict[str, int]]
    bytes: dict[str, int]
    md5: dict[str, str]
    accept_changed: bool


def fetch(options: Options, classes: list[str], out: Path, seed: int) -> Iterator[ImageRecord]:
    """Yield a record per file; paths are absolute (in kagglehub's cache, or the given folder)."""
    by_hand = Path(options.folder) if options.folder else None
    root = _kagglehub.folder(options.handle, by_hand, "Training/ and Testing/ with a folder per class")
    files = _folders.scan(root, classes)
    differences = compare(files, options)
    if differences:
        text = f"{root}: differs from the pinned {options.handle}: {'; '.join(differences)}"
        if not options.accept_changed:
            raise UserError(f"{text}: get the pinned version, or set data.options.accept_changed=true to use this one")
        print(f"warning: {text}", file=sys.stderr)
    for file in files:
        yield ImageRecord(
            id=file.id, path=str(file.path.absolute()), label=file.label, source="kaggle", official_split=file.split
        )


def compare(files: list[_folders.File], options: Options) -> list[str]:
    """Describe how files differ from what `options` pins; empty when they don't."""
    actual = Counter(tuple(file.relative.split("/")[:2]) for file in files)
    pinned = {(part, label): n for part, labels in options.counts.items() for label, n in labels.items()}
    differences = [
        f"{part}/{label} has {actual[part, label]} files instead of {n}"
        for (part, label), n in pinned.items()
        if actual[part, label] != n
    ]
    for part, size in options.bytes.items():
        total = sum(file.path.stat().st_size for file in _of(part, files))
        if total != size:
            differences.append(f"{part} has {total:,} bytes instead of {size:,}")
    if not differences:  # hashing 130 MB tells nothing new about files that already differ
        for part, md5 in options.md5.items():
            if (digest := directory_md5(_of(part, files))) != md5:
                differences.append(f"{part} has the hash {digest} instead of {md5}")
    return differences


def directory_md5(files: list[_folders.File]) -> str:
    """Return DVC's hash of a directory with these files, which are of one part: "<MD5>.dir".

    It is the MD5 of the JSON list of every file's MD5 and path below the directory, sorted by path.
    """
    entries = [
        {"md5": hashlib.md5(file.path.read_bytes(), usedforsecurity=False).hexdigest(), "relpath": relative}
        for relative, file in sorted((file.relative.partition("/")[2], file) for file in files)
    ]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _of(part: str, files: list[_folders.File]) -> list[_folders.File]:
    return [file for file in files if file.relative.startswith(f"{part}/")]
