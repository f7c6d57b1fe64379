"""Datasets with a folder per class, with or without a train and a test part."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mri.base.errors import UserError
from mri.data.images import SUFFIXES

# Folder names of a source's split, in lower case.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
# Written by file managers. Hidden files are ignored too.
IGNORED_FILES = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class File:
    """A file in a class folder.

    relative: its path below the root, with forward slashes. split: "train", "test" or "".
    """

    path: Path
    relative: str
    label: str
    split: str

    @property
    def id(self) -> str:
        """The relative path without its ending: "Training/glioma/Tr-gl_0010"."""
        return stem(self.relative)


def stem(relative: str) -> str:
    """Return a path without the ending of an image's name."""
    ending = next((suffix for suffix in SUFFIXES if relative.lower().endswith(suffix)), "")
    return relative[: len(relative) - len(ending)]


def scan(root: Path, classes: Collection[str], beside: Collection[str] = ()) -> list[File]:
    """List the files of `root`/<class>/ or `root`/{Training,Testing}/<class>/ (also train and test), sorted.

    beside: names of other folders that `root` may have.
    Raises UserError when the root, a class folder or its files are missing, for an unexpected folder, for an image
    outside the class folders, and when two files differ only in their suffixes.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: put one folder per class in it ({', '.join(classes)})")
    folders = [path for path in _visible(root) if path.is_dir() and path.name not in beside]
    if not folders:
        raise UserError(f"{root}: no class folders in it: put one folder per class there ({', '.join(classes)})")
    parts = {path: SPLITS[path.name.lower()] for path in folders if path.name.lower() in SPLITS} or {root: ""}
    if root not in parts:
        _check_parts(root, folders, parts)
    files = [file for part, split in parts.items() for file in _scan_part(root, part, split, classes, beside)]
    _check_names(files)
    return files


def _check_parts(root: Path, folders: list[Path], parts: dict[Path, str]) -> None:
    stray = [path for path in folders if path not in parts]
    if stray:
        raise UserError(f"{stray[0]}: unexpected folder beside {next(iter(parts)).name}/: move or remove it")
    if sorted(parts.values()) != ["test", "train"]:
        names = " and ".join(path.name for path in parts)
        raise UserError(f"{root}: has {names} where one train and one test folder belong together: add or rename")
    _check_loose(root)


def _scan_part(root: Path, part: Path, split: str, classes: Collection[str], beside: Collection[str]) -> list[File]:
    folders = [path for path in _visible(part) if path.is_dir() and (part != root or path.name not in beside)]
    for path in folders:
        if path.name not in classes:
            near = difflib.get_close_matches(path.name.lower(), classes, n=1)
            hint = f"rename it to {near[0]}" if near and not (part / near[0]).exists() else "move or remove it"
            raise UserError(f"{path}: unexpected folder, the classes are {', '.join(classes)}: {hint}")
    _check_loose(part)
    files = []
    for label in classes:
        folder = part / label
        if not folder.is_dir():
            raise UserError(f"{folder}: class folder is missing: add it, or leave {label} out of data.classes")
        paths = sorted(path for path in folder.rglob("*") if not path.is_dir() and not _ignored(path, folder))
        if not paths:
            raise UserError(f"{folder}: class folder is empty: add images, or leave {label} out of data.classes")
        files += [File(path, path.relative_to(root).as_posix(), label, split) for path in paths]
    return files


def _check_loose(folder: Path) -> None:
    for path in _visible(folder):
        if path.is_file() and path.name.lower().endswith(SUFFIXES):
            raise UserError(f"{path}: image outside a class folder: move it into the folder of its class")


def _check_names(files: list[File]) -> None:
    seen: dict[str, File] = {}
    for file in files:
        other = seen.setdefault(file.id, file)
        if other is not file:
            raise UserError(f"{file.path}: same name as {other.path.name} beside it: rename one of the two")


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _ignored(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return hidden or path.name.lower() in IGNORED_FILES
