"""Explanation maps of the packaged networks, without PyTorch.

Grad-CAM is computed from the features that a prediction returns, guided gradients by a graph of their own, and the
consensus from the predictions of all networks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from mri.data import images
from mri.inference.consensus import combine, confidence_weights, consensus_class
from mri.inference.gradcam import gradcam_from_features, guided_gradcam, upsample
from mri.inference.methods import FEATURES, GUIDED_GRADIENT, METHODS, SHOWN_METHODS, needs_of
from mri.inference.package import Network, Opinion, Package, Reason, in_words
from mri.inference.runtime import GUIDED
from service.errors import BadRequestError


@dataclass(frozen=True)
class ExplanationMap:
    """values: float32 (S, S), not negative. target: the class explained. agreement: 0 to 1, of the consensus only."""

    values: np.ndarray
    target: str
    agreement: float | None = None


@dataclass(frozen=True)
class Explanations:
    """by_method: the requested maps. reasons: why the answers of all networks speak against relying on this one."""

    by_method: dict[str, ExplanationMap] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)


class Explainer:
    """Explain the predictions of a package's networks. Safe to call from several threads."""

    def __init__(self, package: Package):
        self.package = package
        packaged = set()
        if all(card["head_weights"] is not None for card in package.cards.values()):
            packaged.add(FEATURES)
        if all((package.folder / "models" / name / GUIDED).is_file() for name in package.names):
            packaged.add(GUIDED_GRADIENT)
        self.methods = [name for name in SHOWN_METHODS if METHODS[name].needs <= packaged]
        if FEATURES in packaged and len(package.names) > 1:
            self.methods.append("consensus")

    def check(self, methods: list[str]) -> list[str]:
        """Return the methods without "none" and repetitions. Raises BadRequestError that lists the legal names."""
        wanted = [name for name in dict.fromkeys(methods) if name != "none"]
        for name in wanted:
            if name not in self.methods:
                raise BadRequestError(f"explain: {name!r} is not one of none, {', '.join(self.methods)}")
        return wanted

    def explain(
        self, network: Network, opinion: Opinion, scan: np.ndarray, pixels: np.ndarray, methods: list[str]
    ) -> Explanations:
        """Return maps of the class that the network predicts; the consensus is of the class that all predict together.

        opinion: the network's answer for the image. scan: the image as `mri.data.images.read` returns it. pixels: uint8
        (S, S), the network's input.
        """
        target = network.classes.index(opinion.label)
        maps: dict[str, np.ndarray] = {}
        needs = needs_of(name for name in methods if name in METHODS)
        if FEATURES in needs:
            maps["gradcam"] = gradcam(network, opinion, target, network.size)
        if GUIDED_GRADIENT in needs:
            maps["guided_backprop"] = network.runtime.guided_gradient(pixels, target)
        if "guided_gradcam" in methods:
            maps["guided_gradcam"] = guided_gradcam(maps["guided_backprop"], maps["gradcam"])
        by_method = {name: ExplanationMap(maps[name], opinion.label) for name in methods if name in maps}
        if "consensus" not in methods:
            return Explanations(by_method)
        consensus, reasons = self._consensus(network, opinion, scan)
        return Explanations({name: by_method.get(name, consensus) for name in methods}, reasons)

    def _consensus(self, asked: Network, opinion: Opinion, scan: np.ndarray) -> tuple[ExplanationMap, list[Reason]]:
        networks = self.package.networks()
        opinions = [
            opinion if network is asked else network.opinions(images.prepare(scan, network.size)[None])[0]
            for network in networks
        ]
        probabilities = np.array([[list(each.probabilities.values())] for each in opinions])
        target = consensus_class(probabilities)
        maps = np.stack(
            [
                gradcam(network, each, int(target[0]), asked.size)[None]
                for network, each in zip(networks, opinions, strict=True)
            ]
        )
        combined = combine(maps, confidence_weights(probabilities, target))
        agreement = float(combined.agreement[0])
        label = asked.classes[int(target[0])]
        consensus = ExplanationMap(combined.map[0], label, agreement if np.isfinite(agreement) else None)
        return consensus, _disagreement([each.label for each in opinions])


def gradcam(network: Network, opinion: Opinion, target: int, size: int) -> np.ndarray:
    """Return Grad-CAM of one class, float32 (size, size), from a prediction's features. The head must be linear."""
    assert network.head_weights is not None and opinion.features is not None
    grid = gradcam_from_features(opinion.features[None], network.head_weights, np.array([target]))
    return upsample(grid, (size, size))[0]


def _disagreement(labels: list[str]) -> list[Reason]:
    """Return a reason to abstain where the networks don't all predict the same class."""
    counts = Counter(labels)
    if len(counts) == 1:
        return []
    votes = ", ".join(f"{in_words(label)} ({count})" for label, count in counts.most_common())
    return [Reason("models_disagree", f"The {len(labels)} networks name different classes: {votes}.")]
