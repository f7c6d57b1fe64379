"""Quantise an exported network to int8, and decide which precision serves.

Post-training quantisation by NNCF, calibrated on validation images. A quicker precision serves only when nothing shows
that it is worse: see `compare`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mri.base.intervals import estimate, resample_weights
from mri.inference.gate import Gate
from mri.inference.prediction_sets import prediction_sets
from mri.inference.runtime import INT8, MODEL, core, softmax

# What another precision may change on validation images, to serve in place of fp32: of the images that both answer, the
# share with another class; of all, the share that only one of them answers, and the share that only one gate stops.
# Fitted on fp32's features, a gate can stop most scans of a network whose predictions quantisation hardly changes.
CLASS_CHANGED, ABSTENTION_CHANGED, GATE_CHANGED = 0.005, 0.03, 0.02
# How much accuracy it may lose: the 95 % interval of the difference must not reach further.
ACCURACY_LOST = 0.02
# How much a probability may change, in 95 % of images.
PROBABILITY_CHANGED = 0.1
# Images used for calibration; more change nothing.
CALIBRATION = 300


def quantise(folder: Path, pixels: np.ndarray, batch: int = 10) -> None:
    """Write int8.xml and int8.bin beside the exported network in `folder`.

    pixels: uint8 (N, size, size); CALIBRATION evenly spread ones set the scales of activations.
    """
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    import nncf  # after mri.inference.runtime, which disables its usage reports

    sample = pixels[np.unique(np.linspace(0, len(pixels) - 1, min(CALIBRATION, len(pixels))).round().astype(int))]
    batches = [np.ascontiguousarray(sample[i : i + batch]) for i in range(0, len(sample), batch)]
    network = core().read_model(folder / MODEL)
    # "Mixed" keeps the sign of activations that have one, which SiLU's do.
    int8 = nncf.quantize(network, nncf.Dataset(batches), preset=nncf.QuantizationPreset.MIXED, subset_size=len(batches))
    openvino.save_model(int8, folder / INT8, compress_to_fp16=False)


@dataclass(frozen=True)
class Outputs:
    """What a service would decide about N images in one precision.

    probabilities: calibrated, (N, C). stopped: bool (N,), by the gate. abstains: bool (N,), stopped or not exactly one
    class in the set.
    """

    probabilities: np.ndarray
    stopped: np.ndarray
    abstains: np.ndarray


def outputs(logits: np.ndarray, pooled: np.ndarray, gate: Gate, temperature: float, threshold: float) -> Outputs:
    """Return what a service would decide from logits (N, C) and pooled features (N, D) of images.

    threshold: the least probability of a class in the prediction set.
    """
    probabilities, stopped = softmax(logits, temperature), ~gate.passes(pooled)
    single = prediction_sets(probabilities, threshold).sum(1) == 1
    return Outputs(probabilities, stopped, stopped | ~single)


def compare(
    reference: Outputs,
    other: Outputs,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Compare another precision with fp32 on the same validation images, and judge whether it may replace it.

    labels: int (N,). groups: (N,), what is resampled together.
    accuracy_difference: the other's minus fp32's, {value, low, high} over paired resamples. class_changed: share of
    images with another class, of those that both answer. gate_changed, abstention_changed: shares of images that only
    one of them stops or abstains from. probability_changed: how much an image's most changed probability does, 95th
    percentile. agreement: share of all images with the same class; it decides nothing. acceptable: each is within its
    limit.
    """
    predicted, others = reference.probabilities.argmax(1), other.probabilities.argmax(1)
    gained = (others == labels).astype(float) - (predicted == labels)
    weights = resample_weights(groups, resamples, seed)
    difference = estimate(float(gained.mean()), weights @ gained / weights.sum(1))
    both = ~reference.abstains & ~other.abstains
    changes = {
        "class_changed": float((predicted != others)[both].mean()) if both.any() else 0.0,
        "abstention_changed": float((reference.abstains != other.abstains).mean()),
        "gate_changed": float((reference.stopped != other.stopped).mean()),
        "probability_changed": float(np.quantile(np.abs(reference.probabilities - other.probabilities).max(1), 0.95)),
    }
    limits = (CLASS_CHANGED, ABSTENTION_CHANGED, GATE_CHANGED, PROBABILITY_CHANGED)
    within = all(change <= limit for change, limit in zip(changes.values(), limits, strict=True))
    return {
        "accuracy_difference": difference,
        "agreement": float((predicted == others).mean()),
        **changes,
        "acceptable": within and difference["low"] >= -ACCURACY_LOST,
    }
