"""Run the packaged networks, as the service and `mri.commands.predict` do: predict, and say when to abstain.

A package is a folder that the package stage wrote: service.json and models/ARCH, each an exported network with its
temperature, the thresholds of its prediction sets and its gate. Nothing is unpickled, and PyTorch is not needed.
Every byte that decides an answer is covered by a SHA-256: a card lists those of its network's files, and service.json
those of the cards.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mri.base.errors import UserError
from mri.base.files import sha256, write_json
from mri.base.paths import RESULTS
from mri.inference.gate import Gate, pool
from mri.inference.prediction_sets import prediction_sets
from mri.inference.runtime import CARD, Runtime, read_card, softmax

ABOUT, GATE = "service.json", "gate.safetensors"
REFERENCE = "reference.safetensors"  # what drift is measured from
# What service.json must have, and its type.
REQUIRED = {
    "winner": str,
    "models": list,
    "classes": list,
    "coverage": float,
    "dataset": str,
    "data_version": str,
    "synthetic": bool,
    "test": dict,
    "files": dict,
}
# Images that go through a network at once.
BATCH = 16


class UnknownModelError(UserError):
    """The request names a network that isn't packaged."""


ReasonCode = Literal["low_confidence", "models_disagree", "unlike_training"]


class Reason(NamedTuple):
    """Why an answer should not be relied on: a code for programs and a sentence for people."""

    code: ReasonCode
    detail: str


@dataclass(frozen=True)
class Opinion:
    """One network's answer for one image.

    probabilities: calibrated, in the order of the classes. members: the prediction set. score, threshold: of the gate
    (None where there is none): an image that scores above the threshold is unlike those of training.
    reasons: empty unless the network abstains. features: float32 (K, h, w), the last ones, where they were asked for.
    pooled: the features that the gate saw.
    """

    model: str
    probabilities: dict[str, float]
    members: list[str]
    score: float | None
    threshold: float | None
    reasons: list[Reason]
    features: np.ndarray | None
    pooled: np.ndarray

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def abstains(self) -> bool:
        return bool(self.reasons)


class Network:
    """A packaged network, safe to call from several threads. shared: as in `mri.inference.runtime.Runtime`."""

    def __init__(self, folder: Path, name: str, coverage: float, shared: bool = False):
        check_files(folder)
        self.name = name
        self.coverage = coverage
        self.runtime = Runtime(folder, shared=shared)
        self.classes, self.size, self.card = self.runtime.classes, self.runtime.size, self.runtime.card
        try:
            self._temperature = float(self.card["temperature"])
            self._threshold = float(self.card["thresholds"][percent(coverage)])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{folder / CARD} lacks temperature or threshold: run `dvc repro package`") from None
        self.gate = Gate.load(folder / GATE) if (folder / GATE).is_file() else None

    @cached_property
    def head_weights(self) -> np.ndarray | None:
        """Weights of the linear head, float32 (C, K); None for a network with another kind of head."""
        weights = self.card["head_weights"]
        return None if weights is None else np.array(weights, np.float32)

    def opinions(self, pixels: np.ndarray, features: bool = True) -> list[Opinion]:
        """Return the answers for images, uint8 (N, size, size). features: whether to keep them, 0.1 to 0.4 MB each."""
        return list(self._opinions(pixels, features))

    def _opinions(self, pixels: np.ndarray, keep: bool) -> Iterator[Opinion]:
        for logits, features in self.runtime.in_batches(pixels, BATCH):
            probabilities = softmax(logits, self._temperature)
            sets = prediction_sets(probabilities, self._threshold)
            pooled = pool(features)
            scores = self.gate.score(pooled).tolist() if self.gate else [None] * len(pooled)
            kept = features if keep else [None] * len(pooled)
            for row in zip(probabilities, sets, scores, kept, pooled, strict=True):
                yield self._opinion(*row)

    def _opinion(
        self,
        probabilities: np.ndarray,
        included: np.ndarray,
        score: float | None,
        features: np.ndarray | None,
        pooled: np.ndarray,
    ) -> Opinion:
        members = [name for name, member in zip(self.classes, included, strict=True) if member]
        threshold = self.gate.threshold if self.gate else None
        reasons = [*_low_confidence(members, self.coverage), *_unlike_training(score, threshold)]
        by_class = dict(zip(self.classes, probabilities.tolist(), strict=True))
        return Opinion(self.name, by_class, members, score, threshold, reasons, features, pooled)


def in_words(label: str) -> str:
    """Return the name of a class in a sentence: "notumor" is "no tumour"."""
    return {"notumor": "no tumour"}.get(label, label.replace("_", " "))


def percent(coverage: float) -> str:
    """Return the name of a coverage in metrics and cards: 0.95 is "95"."""
    return f"{100 * coverage:.0f}"


def _low_confidence(members: list[str], coverage: float) -> list[Reason]:
    if len(members) == 1:
        return []
    if members:
        detail = (
            f"At {coverage:.0%} coverage {len(members)} classes remain possible: {', '.join(map(in_words, members))}."
        )
    else:
        detail = f"The network is less sure of any class than {coverage:.0%} coverage asks for."
    return [Reason("low_confidence", detail)]


def _unlike_training(score: float | None, threshold: float | None) -> list[Reason]:
    if score is None or threshold is None or score <= threshold:
        return []
    detail = "The image is unlike those that the network was trained on, so its probabilities mean little."
    return [Reason("unlike_training", detail)]


class Package:
    """A folder of packaged networks: the winner is loaded at once, the others when they are first used.

    shared: whether several threads will call at a time (see `mri.inference.runtime.Runtime`).
    Raises UserError for a folder without a package or with a missing or damaged file.
    """

    def __init__(self, folder: Path, shared: bool = False):
        self.folder, self._shared = folder, shared
        self.about = _read_about(folder)
        self.default: str = self.about["winner"]
        self.names: list[str] = self.about["models"]
        self.classes: list[str] = self.about["classes"]
        self.coverage: float = self.about["coverage"]
        check_listed(folder, self.about)
        self.cards = {name: read_card(folder / "models" / name) for name in self.names}
        for name in self.names:
            check_sizes(folder / "models" / name)
        self._networks: dict[str, Network] = {}
        self._loading = {name: threading.Lock() for name in self.names}
        self.network()

    def network(self, name: str = "") -> Network:
        """Return the network of that name; the winner for "". Raises UnknownModelError that lists the names."""
        name = name or self.default
        if name not in self.names:
            raise UnknownModelError(f"unknown model {name!r}: choose from {', '.join(self.names)}")
        if not self.is_loaded(name):  # so that using a loaded one never waits for another to load
            with self._loading[name]:
                if name not in self._networks:
                    self._networks[name] = Network(self.folder / "models" / name, name, self.coverage, self._shared)
        return self._networks[name]

    def is_loaded(self, name: str = "") -> bool:
        """Check whether the network of that name, the winner for "", is loaded."""
        return (name or self.default) in self._networks

    def networks(self) -> list[Network]:
        """Return all networks, loaded."""
        return [self.network(name) for name in self.names]

    def version(self, name: str) -> str:
        """Return twelve hexadecimal digits that identify a network's files: each training has its own."""
        files = self.cards[name]["files"]
        listed = "".join(f"{file} {entry['sha256']}\n" for file, entry in sorted(files.items()))
        return hashlib.sha256(listed.encode()).hexdigest()[:12]


def write_about(about: dict[str, Any], folder: Path) -> None:
    """Write service.json to a package, with the SHA-256 of every card and of the drift reference."""
    listed = [_card(name) for name in about["models"]]
    listed += [REFERENCE] if (folder / REFERENCE).is_file() else []
    write_json(about | {"files": {name: sha256(folder / name) for name in listed}}, folder / ABOUT)


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        advice = f"run `make repro` (or `dvc pull`) first{_published()}"
        raise UserError(f"{folder} holds no packaged model: {advice}") from None
    except (OSError, ValueError):
        raise UserError(f"{path} is damaged: run `dvc checkout --force`") from None
    about = about if isinstance(about, dict) else {}
    for name, kind in REQUIRED.items():
        if not isinstance(about.get(name), kind):
            raise UserError(f"{path} is damaged (it has no {name}): run `dvc checkout --force`")
    return about


def check_listed(folder: Path, about: dict[str, Any]) -> None:
    """Check cards and other files against service.json. Raises UserError that names the first that differs."""
    for name in [*map(_card, about["models"]), *about["files"]]:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} does not exist: run `dvc checkout --force`")
        if sha256(folder / name) != about["files"].get(name):
            raise _damaged(folder / name)


def _card(name: str) -> str:
    return f"models/{name}/{CARD}"


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged (its SHA-256 is wrong): run `dvc checkout --force`")


def _published() -> str:
    """Return how to use a published package, for the message that there is none; "" where nothing is published."""
    for package in sorted(about.parent for about in RESULTS.glob(f"*/package/{ABOUT}")):
        ways = f"`make serve MODEL={package.parent.name}`, `--service {package}`, `MRI_SERVICE={package}`"
        return f", or take the published one: {ways}"
    return ""


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {name: {bytes, sha256}} of the files in a packaged network's folder, for its card."""
    files = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files}


def check_sizes(folder: Path) -> None:
    """Check files against the lengths on the card. Raises UserError that names the first that is missing or differs."""
    for name, (size, _) in _files(folder).items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc checkout --force`")
        if path.stat().st_size != size:
            raise UserError(f"{path} is damaged (its length isn't {size}): run `dvc checkout --force`")


def check_files(folder: Path) -> None:
    """Check files against the lengths and SHA-256 on the card. Raises UserError like `check_sizes`."""
    check_sizes(folder)
    for name, (_, digest) in _files(folder).items():
        if sha256(folder / name) != digest:
            raise _damaged(folder / name)


def _files(folder: Path) -> dict[str, tuple[int, str]]:
    """Return {name: (bytes, SHA-256)} of what a card lists. Raises UserError for a card that lists nothing."""
    try:
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in read_card(folder)["files"].items()}
    except (KeyError, TypeError, AttributeError):
        files = {}
    if not files:
        raise UserError(f"{folder / CARD} is damaged (it lists no files): run `dvc checkout --force`")
    return files
