"""Splits without leakage: groups of related images stay together, and every class is divided evenly.

Groups come from `mri.data.relations.relations`. They are assigned here rather than by scikit-learn's
StratifiedGroupKFold, which only makes equal folds and whose result depends on the order of rows and on its version: a
published split must be the same on every machine, whatever the order of files on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mri.base.errors import UserError
from mri.base.params import SplitOptions
from mri.data.dataset import PARTS

KEEPS_DUPLICATES = ("official", "record")  # protocols that show what duplicates do


def split(
    index: pd.DataFrame, related: pd.DataFrame, options: SplitOptions, seed: int, dropped: np.ndarray | None = None
) -> pd.DataFrame:
    """Return `index` with the columns near and group (of `related`), split, fold and clean.

    index: columns of `mri.data.dataset`, and those of `mri.data.matching.inherit` where it was applied. related: from
    `mri.data.relations.relations`, row by row. dropped: bool (N,), images not to use.
    split: "train", "val", "test", or "" for an unused image. fold: number of the fold, as text, "" without
    folds. clean: true for test images that are related to nothing in training or validation.
    The result depends on the images, the options and the seed, not on the order of rows.
    Raises UserError when the dataset lacks what the protocol needs, or a class has too few groups.
    """
    frame = index.assign(near=related["near"].to_numpy(), group=related["group"].to_numpy())
    used = np.ones(len(frame), bool) if dropped is None else ~dropped
    if not (options.keep_duplicates or options.protocol in KEEPS_DUPLICATES):
        used &= representatives(frame, used)
    part, fold = (np.full(len(frame), "", object) for _ in range(2))
    part[used], fold[used] = _PROTOCOLS[options.protocol](frame[used], options, seed)
    _check_classes(frame["label"].to_numpy()[used], part[used], options)
    learned_from = frame["group"][np.isin(part, PARTS[:2])]
    return frame.assign(split=part, fold=fold, clean=(part == "test") & ~frame["group"].isin(learned_from).to_numpy())


def representatives(frame: pd.DataFrame, used: np.ndarray) -> np.ndarray:
    """Select one image of each near-duplicate group, as bool (N,), among the rows of `used`.

    Preferred are images with a mask, then those that are neither mirrored nor turned, then the first by id.
    """
    empty = pd.Series("", frame.index)
    candidates = frame[["id", "near"]].assign(
        no_mask=(frame["mask"] == "") & (frame.get("mask_from", empty) == ""),
        changed=~frame.get("transform", empty).isin(("", "none")),
    )[used]
    first = candidates.sort_values(["no_mask", "changed", "id"], kind="stable").drop_duplicates("near")
    return frame["id"].isin(first["id"]).to_numpy()


def deal(groups: np.ndarray, labels: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Assign whole groups to parts so that every class is divided as closely as possible by `shares` (sum 1).

    groups, labels: (N,) of strings. Returns the part's number for each image, int64 (N,).
    Each group goes where it reduces the squared relative error of the class counts most; large groups first, because
    small ones can still compensate for them; groups of similar size (within a factor of two) in an order given by
    hashes of their names and the seed.
    """
    table = pd.crosstab(groups, labels)
    names, counts = list(table.index), table.to_numpy(np.float64)
    sizes = counts.sum(axis=1).astype(int)
    order = sorted(range(len(names)), key=lambda i: (-int(sizes[i]).bit_length(), _draw(names[i], seed)))
    total = counts.sum(axis=0)
    target = np.outer(shares, total)
    filled = np.zeros_like(target)
    part = np.zeros(len(names), np.int64)
    for i in order:
        change = counts[i] * (counts[i] + 2 * (filled - target)) / (target * total)
        # Rounded, so that ties aren't decided by the last bit of a sum, which differs between processors.
        part[i] = np.round(change.sum(axis=1), 9).argmin()
        filled[part[i]] += counts[i]
    return part[table.index.get_indexer(pd.Index(groups))]


def _draw(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


Parts = tuple[np.ndarray, np.ndarray]


def _grouped(frame: pd.DataFrame, options: SplitOptions, seed: int) -> Parts:
    return _dealt(frame, *_columns(frame), options, seed)


def _record(frame: pd.DataFrame, options: SplitOptions, seed: int) -> Parts:
    return _dealt(frame, frame["id"].to_numpy(), frame["label"].to_numpy(), options, seed)


def _dealt(frame: pd.DataFrame, groups: np.ndarray, labels: np.ndarray, options: SplitOptions, seed: int) -> Parts:
    if not options.folds:
        _check_groups(groups, labels, len(PARTS), "parts")
        shares = (1 - options.val - options.test, options.val, options.test)
        return np.array(PARTS)[deal(groups, labels, shares, seed)], np.full(len(frame), "")
    _check_groups(groups, labels, options.folds, "folds")
    fold = 1 + deal(groups, labels, [1 / options.folds] * options.folds, seed)
    return _divide(fold == options.fold, groups, labels, options, seed), fold.astype(str)


def _hold_out(frame: pd.DataFrame, test: np.ndarray, options: SplitOptions, seed: int) -> np.ndarray:
    return _divide(test, *_columns(frame), options, seed)


def _divide(test: np.ndarray, groups: np.ndarray, labels: np.ndarray, options: SplitOptions, seed: int) -> np.ndarray:
    """Return the parts when the test images are given: validation images are taken from the rest."""
    part = np.where(test, "test", "train").astype(object)
    groups, labels = groups[~test], labels[~test]
    _check_groups(groups, labels, 2, "parts beside the test images")
    share = options.val * len(test) / len(labels)
    if share >= 1:
        raise UserError(f"split.val {options.val} of all images leaves none to train on beside the test images")
    part[~test] = np.array(PARTS[:2])[deal(groups, labels, (1 - share, share), seed)]
    return part


def _official(frame: pd.DataFrame, options: SplitOptions, seed: int) -> Parts:
    given = frame["official_split"].to_numpy()
    if not {"train", "test"} <= set(given):
        raise UserError("split.protocol is official but the dataset has no split of its own: choose grouped")
    part, fold = np.where(given == "test", "test", "").astype(object), np.full(len(frame), "", object)
    trainable = frame[given == "train"]
    if options.folds:
        _check_groups(*_columns(trainable), options.folds, "folds")
        number = 1 + deal(*_columns(trainable), [1 / options.folds] * options.folds, seed)
        part[given == "train"] = np.where(number == options.fold, "val", "train")
        fold[given == "train"] = number.astype(str)
    else:
        part[given != ""] = _hold_out(frame[given != ""], given[given != ""] == "test", options, seed)
    return part, fold


def _patient(frame: pd.DataFrame, options: SplitOptions, seed: int) -> Parts:
    if (frame["patient"] == "").all():
        raise UserError("split.protocol is patient but no image has a patient id: choose grouped, or give patients.csv")
    names = sorted(set(frame["fold"]), key=lambda name: (len(name), name))
    if "" in names or len(names) < 2 or options.folds not in (0, len(names)):
        return _grouped(frame, options, seed)
    if options.fold > len(names):
        raise UserError(f"split.fold is {options.fold} but the dataset has {len(names)} folds")
    numbers = frame["fold"].map(names.index) + 1
    votes = pd.crosstab(frame["group"], numbers)
    fold = frame["group"].map(votes.idxmax(axis=1)).to_numpy()
    return _hold_out(frame, fold == options.fold, options, seed), fold.astype(str)


def _source(frame: pd.DataFrame, options: SplitOptions, seed: int) -> Parts:
    names = sorted(set(frame["source"]))
    if len(names) < 2:
        raise UserError(f"split.protocol is source but all images come from one source, {names[0]!r}: choose grouped")
    if options.held_out not in ("", *names):
        raise UserError(f"split.held_out is {options.held_out!r}: choose one of the sources {', '.join(names)}")
    if not options.held_out and options.fold > len(names):
        raise UserError(f"split.fold is {options.fold} but there are {len(names)} sources ({', '.join(names)})")
    held_out = options.held_out or names[options.fold - 1]
    test = (frame["source"] == held_out).to_numpy()
    alone = sorted(set(frame["label"]) - set(frame["label"][~test]))
    if alone:
        raise UserError(
            f"source {held_out!r} can't be held out: all {alone[0]!r} images come from it and none is left to train on"
        )
    unrelated = test | ~frame["group"].isin(frame["group"][test]).to_numpy()
    part = np.full(len(frame), "", object)
    part[unrelated] = _hold_out(frame[unrelated], test[unrelated], options, seed)
    return part, frame["source"].map(names.index).add(1).astype(str).to_numpy()


_PROTOCOLS: dict[str, Callable[[pd.DataFrame, SplitOptions, int], Parts]] = {
    "grouped": _grouped,
    "official": _official,
    "patient": _patient,
    "source": _source,
    "record": _record,
}


def _columns(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return group and class of every row."""
    return frame["group"].to_numpy(), frame["label"].to_numpy()


def _check_groups(groups: np.ndarray, labels: np.ndarray, needed: int, what: str) -> None:
    """Raise UserError unless every class has a group for each of `needed` parts or folds."""
    counts = pd.Series(groups).groupby(labels).nunique()
    if not len(counts) or counts.min() < needed:
        name, count = (counts.idxmin(), counts.min()) if len(counts) else ("any class", 0)
        raise UserError(
            f"class {name!r} has {count} groups of unrelated images, too few for {needed} {what}: "
            "add patients, or lower split.folds"
        )


def _check_classes(labels: np.ndarray, part: np.ndarray, options: SplitOptions) -> None:
    """Raise UserError when a part lacks a class, which only a given test set may."""
    for needed in PARTS[:2] if options.protocol in ("official", "source") else PARTS:
        missing = sorted(set(labels) - set(labels[part == needed]))
        if missing:
            raise UserError(
                f"split.protocol {options.protocol} leaves no {missing[0]!r} image for {needed}: "
                "choose another protocol or fold, or other shares"
            )
