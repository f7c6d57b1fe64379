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
from mri.inference.gate import Gate, pool
from mri.inference.prediction_sets import prediction_sets
from mri.inference.runtime import INT8, MODEL, Runtime, core, softmax

# The share of validation images on which a precision must predict the same class as fp32.
AGREEMENT = 0.995
# The largest share on which its gate may decide differently. Fitted on fp32's features, a gate can stop most scans of a
# network whose predictions quantisation hardly changes: 76 % of ResNet101's real ones, 99 % of them predicted the same.
GATE_CHANGED = 0.02
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

    logits: (N, C). stopped: bool (N,), by the gate. abstains: bool (N,), stopped or not exactly one class in the set.
    """

    logits: np.ndarray
    stopped: np.ndarray
    abstains: np.ndarray


def outputs(runtime: Runtime, pixels: np.ndarray, gate: Gate, temperature: float, threshold: float) -> Outputs:
    """Run images, uint8 (N, S, S). threshold: the least probability of a class in the prediction set."""
    batches = list(runtime.in_batches(pixels))
    logits = np.concatenate([logits for logits, _ in batches])
    stopped = ~gate.passes(np.concatenate([pool(features) for _, features in batches]))
    single = prediction_sets(softmax(logits, temperature), threshold).sum(1) == 1
    return Outputs(logits, stopped, stopped | ~single)


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
    accuracy_difference: the other's minus fp32's, {value, low, high} over paired resamples. agreement: share of images
    with the same prediction. gate_changed, abstention_changed: shares of images that only one of them stops or abstains
    from. acceptable: the interval holds 0, the agreement reaches AGREEMENT and gate_changed stays within GATE_CHANGED.
    """
    predicted, others = reference.logits.argmax(1), other.logits.argmax(1)
    gained = (others == labels).astype(float) - (predicted == labels)
    weights = resample_weights(groups, resamples, seed)
    difference = estimate(float(gained.mean()), weights @ gained / weights.sum(1))
    agreement = float((predicted == others).mean())
    gate_changed = float((reference.stopped != other.stopped).mean())
    same_accuracy = difference["low"] <= 0 <= difference["high"]
    return {
        "accuracy_difference": difference,
        "agreement": agreement,
        "acceptable": same_accuracy and agreement >= AGREEMENT and gate_changed <= GATE_CHANGED,
        "gate_changed": gate_changed,
        "abstention_changed": float((reference.abstains != other.abstains).mean()),
    }
