"""Time the scores and explanations of all four networks, and write results/benchmarks/scoring.json.

    python -m benchmarks.scoring

- scores: all that is computed from four networks' predictions on 1,300 images in 130 groups, with intervals from
  2,000 resamples: scores in all and per class, calibration, abstaining, prediction sets, and tests of all six pairs.
- maps: Grad-CAM, Guided Backprop and Guided Grad-CAM of four networks on 200 images of 224 pixels a side.

Predictions and weights are random: they don't change how long it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from mri.base.cli import Parser, guarded
from mri.base.hardware import keep_freed_memory
from mri.base.params import Params, parse
from mri.commands.compose import compose
from mri.evaluation import confidence
from mri.evaluation.comparison import compare
from mri.evaluation.scores import summarise
from mri.explanation.maps import explain_many
from mri.inference import prediction_sets
from mri.inference.methods import SHOWN_METHODS
from mri.networks import models
from mri.networks.predict import to_tensor

OUT = Path("results/benchmarks/scoring.json")
PREDICTED, GROUPS = 1300, 130
EXPLAINED, SIZE = 200, 224


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Measure wall seconds, and processor seconds per wall second, which tell an idle machine from a busy one."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu_per_wall": cpu / wall}


def score(params: Params, images: int = PREDICTED) -> None:
    """Compute all scores of all networks on random predictions."""
    random = np.random.default_rng(0)
    classes, resamples = params.data.classes, params.evaluate.resamples
    labels, groups = random.integers(0, len(classes), images), np.arange(images) % GROUPS
    probabilities = {}
    for name in params.model.architectures:
        logits = random.normal(size=(images, len(classes))) + 3 * np.eye(len(classes))[labels]
        probabilities[name] = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        summarise(probabilities[name], labels, groups, classes, resamples)
        confidence.noise_floor(probabilities[name])
        confidence.abstaining_scores(probabilities[name], labels, groups, resamples, 0)
        for coverage in params.evaluate.coverage:
            threshold = prediction_sets.fit_threshold(probabilities[name], labels, 1 - coverage)
            sets = prediction_sets.prediction_sets(probabilities[name], threshold)
            prediction_sets.summarise(sets, labels, groups, classes, resamples, 0)
    predicted = {name: rows.argmax(1) for name, rows in probabilities.items()}
    compare(predicted, labels, groups, len(classes), resamples=resamples)


def explain(params: Params, images: int = EXPLAINED, size: int = SIZE) -> None:
    """Draw all maps of all networks on random images."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size), np.uint8)
    for spec in params.model.architectures.values():
        explain_many(models.build(spec, len(params.data.classes), 0).eval(), to_tensor(pixels), None, SHOWN_METHODS)


def main() -> None:
    Parser("benchmarks.scoring", __doc__).parse_args()
    keep_freed_memory()  # as every stage does
    params = parse(compose([]))
    content = {
        "networks": list(params.model.architectures),
        "scores": {"images": PREDICTED, "resamples": params.evaluate.resamples, **timed(lambda: score(params))},
        "maps": {"images": EXPLAINED, "size_px": SIZE, "methods": SHOWN_METHODS, **timed(lambda: explain(params))},
    }
    records.write("benchmarks.scoring", content, OUT)
    print(f"scores {content['scores']['seconds']:.1f} s, maps {content['maps']['seconds']:.0f} s")


if __name__ == "__main__":
    guarded(main)
