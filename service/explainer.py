"""Where the packaged networks looked, without PyTorch.

Grad-CAM comes from the features that a prediction brings along, guided gradients from a graph of their own, and the
consensus from asking all networks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from mri.base.errors import UserError
from mri.data import images
from mri.inference.consensus import combine, confidence_weights, consensus_class
from mri.inference.gradcam import gradcam_from_features, upsample
from mri.inference.package import Network, Opinion, Package, Reason, in_words
from mri.inference.runtime import GUIDED


class UnknownMethodError(UserError):
    """The request names a method that this package can't explain with."""


@dataclass(frozen=True)
class Explained:
    """map: float32 (S, S), raw and non-negative. target: the class explained. agreement: of the consensus, 0 to 1."""

    map: np.ndarray
    target: str
    agreement: float | None = None


@dataclass(frozen=True)
class Explanations:
    """by_method: what was asked for. reasons: what asking all networks has shown against the answer."""

    by_method: dict[str, Explained] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)


class Explainer:
    """Explains what the networks of a package say. Safe to call from several threads."""

    def __init__(self, package: Package):
        self.package = package
        closed_form = all(card["head_weights"] is not None for card in package.cards.values())
        guided = all((package.folder / "models" / name / GUIDED).is_file() for name in package.names)
        self.methods = [
            *(["gradcam"] if closed_form else []),
            *(["guided_backprop"] if guided else []),
            *(["guided_gradcam"] if guided and closed_form else []),
            *(["consensus"] if closed_form and len(package.names) > 1 else []),
        ]

    def check(self, methods: list[str]) -> list[str]:
        """The methods without "none" and repetitions. Raises UnknownMethodError that lists the legal names."""
        wanted = [name for name in dict.fromkeys(methods) if name != "none"]
        for name in wanted:
            if name not in self.methods:
                raise UnknownMethodError(f"explain: {name!r} is not one of none, {', '.join(self.methods)}")
        return wanted

    def explain(
        self, network: Network, opinion: Opinion, scan: np.ndarray, pixels: np.ndarray, methods: list[str]
    ) -> Explanations:
        """Maps of the class that the network names, and of the one that all networks together name (consensus).

        opinion: what the network said of the image. scan: the image as `mri.data.images.read` returns it. pixels: uint8
        (S, S), what the network saw of it.
        """
        target = network.classes.index(opinion.label)
        maps: dict[str, np.ndarray] = {}
        if {"gradcam", "guided_gradcam"} & set(methods):
            maps["gradcam"] = gradcam(network, opinion, target, network.size)
        if {"guided_backprop", "guided_gradcam"} & set(methods):
            maps["guided_backprop"] = network.runtime.guided_gradient(pixels, target)
        if "guided_gradcam" in methods:
            maps["guided_gradcam"] = maps["guided_backprop"] * maps["gradcam"]
        explained = {name: Explained(maps[name], opinion.label) for name in methods if name in maps}
        if "consensus" not in methods:
            return Explanations(explained)
        found, reasons = self._consensus(network, opinion, scan)
        return Explanations({name: explained.get(name, found) for name in methods}, reasons)

    def _consensus(self, asked: Network, opinion: Opinion, scan: np.ndarray) -> tuple[Explained, list[Reason]]:
        networks = self.package.networks()
        opinions = [
            opinion if network is asked else network.opinions(images.prepare(scan, network.size)[None])[0]
            for network in networks
        ]
        probabilities = np.array([[list(said.probabilities.values())] for said in opinions])
        target = consensus_class(probabilities)
        maps = np.stack(
            [
                gradcam(network, said, int(target[0]), asked.size)[None]
                for network, said in zip(networks, opinions, strict=True)
            ]
        )
        combined = combine(maps, confidence_weights(probabilities, target))
        agreement = float(combined.agreement[0])
        found = Explained(combined.map[0], asked.classes[int(target[0])], agreement if np.isfinite(agreement) else None)
        return found, _disagreement([said.label for said in opinions])


def gradcam(network: Network, opinion: Opinion, target: int, size: int) -> np.ndarray:
    """Grad-CAM of one class, float32 (size, size), from the features of a prediction; network has a linear head."""
    assert network.head_weights is not None and opinion.features is not None
    grid = gradcam_from_features(opinion.features[None], network.head_weights, np.array([target]))
    return upsample(grid, (size, size))[0]


def _disagreement(labels: list[str]) -> list[Reason]:
    """A reason where the networks don't all name one class."""
    counts = Counter(labels)
    if len(counts) == 1:
        return []
    said = ", ".join(f"{in_words(label)} ({count})" for label, count in counts.most_common())
    return [Reason("models_disagree", f"The {len(labels)} networks name different classes: {said}.")]
