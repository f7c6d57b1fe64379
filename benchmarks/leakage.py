"""Measure how much leakage raises scores, and write results/leakage: params.yaml, leakage.json and leakage.png.

    python -m benchmarks.leakage

The phantoms of params.yaml come in neighbouring slices of one patient. They are split twice, by patients ("grouped")
and by single images ("record"), and the same classifiers learn from both: EfficientNet-B0 with the recipe of
params.yaml, and the trivial ones of `mri.evaluation.trivial_classifiers`. Then once more with labels that are shuffled
among patients: there is nothing left to learn, so any score above one in four comes from remembering a patient
whose other slices were in training (the check of Yagis et al. 2021, doi 10.1038/s41598-021-01681-w). Means over
seeds, which change split, labels and training.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from sklearn.metrics import balanced_accuracy_score

from benchmarks import records
from mri.base.cli import Parser, guarded, positive
from mri.base.params import Params, parse
from mri.commands.compose import compose
from mri.data import dataset, relations, splits
from mri.data.decoding import Decoded, decode
from mri.data.download import download
from mri.evaluation import trivial_classifiers
from mri.networks import models
from mri.networks.predict import predict_logits
from mri.networks.weights import initialise
from mri.report.sheets import save
from mri.training.checkpoints import Checkpoint
from mri.training.trainer import Trainer, derived_seed

OUT = Path("results/leakage")
ARCHITECTURE = "efficientnet_b0"
PROTOCOLS, LABELS = ("grouped", "record"), ("true", "shuffled")
NO_PAIRS = pd.DataFrame({"a": [], "b": [], "correlation": []})
SHOWN = [ARCHITECTURE, "nearest_neighbour", "grey_levels", "shortcut"]


def shuffled_among_patients(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Shuffle labels among whole patients, so that each class keeps its number of patients."""
    patients = frame.groupby("patient")["label"].first()
    labels = np.random.default_rng(derived_seed(seed, "labels")).permutation(patients.to_numpy())
    return frame.assign(label=frame["patient"].map(dict(zip(patients.index, labels, strict=True))))


def scores(params: Params, frame: pd.DataFrame, decoded: Decoded, pixels: np.ndarray, seed: int) -> dict[str, float]:
    """Return every classifier's balanced accuracy on the test part, trained on the other parts."""
    classes = params.data.classes
    related = relations.relations(frame, decoded.hashes, NO_PAIRS, params.audit.near)
    frame = splits.split(frame, related, params.split, seed).assign(row=np.arange(len(frame)))
    part = frame["split"].to_numpy()
    train, test = np.isin(part, ("train", "val")), part == "test"
    trivial = trivial_classifiers.score(frame, decoded.evidence, train, test, classes, 100, seed)
    data = dataset.Dataset(frame, pixels, np.zeros((0, 1, 1), bool), classes)
    return {
        ARCHITECTURE: network_score(params, data, seed),
        **{name: score["balanced_accuracy"]["value"] for name, score in trivial.items()},
    }


def network_score(params: Params, data: dataset.Dataset, seed: int) -> float:
    model = models.build(params.architecture(ARCHITECTURE), len(data.classes), derived_seed(seed, "weights"))
    initialise(model, params.train.weights)
    settings = params.train.model_copy(update={"seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, data.part("train"), data.part("val"), settings).fit(Checkpoint({}, Path(folder)))
    test = data.part("test")
    return float(balanced_accuracy_score(test.labels, predict_logits(model, test.pixels).argmax(1)))


def run(parameters: dict[str, Any], seeds: int) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Train and score everything: {labels: {protocol: {classifier: [score per seed]}}}."""
    params = parse(parameters)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder)
        download(params.data.source, params.data.options, params.data.classes, images, params.seed)
        frame = dataset.read_index(images)
        decoded = decode(images, frame, params.size, params.audit.size, images / "splits")
        pixels = np.load(images / "splits" / dataset.IMAGES, mmap_mode="r")
        results: dict = {kind: {protocol: {} for protocol in PROTOCOLS} for kind in LABELS}
        for seed, kind, protocol in itertools.product(range(seeds), LABELS, PROTOCOLS):
            variant = params.model_copy(update={"split": params.split.model_copy(update={"protocol": protocol})})
            labelled = frame if kind == "true" else shuffled_among_patients(frame, seed)
            for name, score in scores(variant, labelled, decoded, pixels, seed).items():
                results[kind][protocol].setdefault(name, []).append(score)
                print(f"seed {seed}, {kind} labels, {protocol}: {name} {score:.3f}", flush=True)
    return results


def summary(results: dict[str, dict[str, dict[str, list[float]]]]) -> dict[str, Any]:
    """Return means over seeds, and the gap that leakage makes: record-wise minus patient-wise."""
    summaries: dict[str, Any] = {}
    for kind, protocols in results.items():
        means = {
            name: {who: float(np.mean(values)) for who, values in scores.items()} for name, scores in protocols.items()
        }
        gap = {who: means["record"][who] - means["grouped"][who] for who in means["record"]}
        summaries[kind] = {**means, "gap": gap, "seeds": protocols}
    return summaries


def draw(results: dict[str, dict[str, dict[str, list[float]]]], chance: float) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for axis, kind in zip(axes, LABELS, strict=True):
        for offset, protocol in ((-0.2, "grouped"), (0.2, "record")):
            values = [results[kind][protocol][name] for name in SHOWN]
            places = np.arange(len(SHOWN)) + offset
            label = "split by patients" if protocol == "grouped" else "split by images: leaks"
            axis.bar(places, [np.mean(v) for v in values], 0.4, label=label, zorder=2)
            for place, points in zip(places, values, strict=True):
                axis.plot([place] * len(points), points, "k.", markersize=4, zorder=3)
        axis.axhline(chance, color="grey", linestyle="--", linewidth=1, zorder=1)
        axis.set_xticks(range(len(SHOWN)), [name.replace("_", "\n") for name in SHOWN], fontsize=8)
        axis.set(title=f"{kind} labels", ylim=(0, 1))
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("balanced accuracy on test images")
    axes[1].legend(fontsize=8, loc="upper right")
    figure.suptitle("Synthetic images: what a split that leaks adds (points: seeds; dashed: chance)", fontsize=10)
    save(figure, OUT / "leakage.png")


def main() -> None:
    parser = Parser("benchmarks.leakage", __doc__)
    parser.add_argument(
        "--seeds", type=positive(int), default=3, help="repetitions with another split and another training"
    )
    arguments = parser.parse_args()
    parameters = compose([])
    results = run(parameters, arguments.seeds)
    content = {
        "score": "balanced accuracy on test images",
        **summary(results),
    }
    records.write("benchmarks.leakage", content, OUT / "leakage.json")
    (OUT / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
    draw(results, 1 / len(parameters["data"]["classes"]))


if __name__ == "__main__":
    guarded(main)
