"""Quantising an exported network to int8, and deciding whether it may serve.

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

# The share of validation images on which a precision must call the same class as fp32.
AGREEMENT = 0.995
# The largest share on which its gate may decide otherwise. Fitted on fp32's features, a gate can stop most scans of a
# network whose calls quantisation hardly changes: 76 % of ResNet101's real ones, of which 99 % are called the same.
GATE_CHANGED = 0.02
# Images that calibration looks at; more change nothing.
CALIBRATION = 300


def quantise(folder: Path, pixels: np.ndarray, batch: int = 10) -> None:
    """Write int8.xml and int8.bin beside the exported network in `folder`.

    pixels: uint8 (N, size, size), of which CALIBRATION evenly spread ones are used: activations are scaled by them.
    """
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    import nncf  # after mri.inference.runtime, which keeps it from reporting its use

    chosen = pixels[np.unique(np.linspace(0, len(pixels) - 1, min(CALIBRATION, len(pixels))).round().astype(int))]
    batches = [np.ascontiguousarray(chosen[i : i + batch]) for i in range(0, len(chosen), batch)]
    network = core().read_model(folder / MODEL)
    # "Mixed" keeps the sign of activations that have one, which SiLU's do.
    made = nncf.quantize(network, nncf.Dataset(batches), preset=nncf.QuantizationPreset.MIXED, subset_size=len(batches))
    openvino.save_model(made, folder / INT8, compress_to_fp16=False)


@dataclass(frozen=True)
class Answers:
    """What a service would say of N images in one precision.

    logits: (N, C). stopped: bool (N,), by the gate. abstains: bool (N,), stopped or not exactly one class in the set.
    """

    logits: np.ndarray
    stopped: np.ndarray
    abstains: np.ndarray


def answers(runtime: Runtime, pixels: np.ndarray, gate: Gate, temperature: float, threshold: float) -> Answers:
    """pixels: uint8 (N, S, S). threshold: the least probability of a class in the prediction set."""
    parts = [runtime(pixels[start : start + 32]) for start in range(0, len(pixels), 32)]
    logits = np.concatenate([logits for logits, _ in parts])
    stopped = ~gate.passes(np.concatenate([pool(features) for _, features in parts]))
    single = prediction_sets(softmax(logits, temperature), threshold).sum(1) == 1
    return Answers(logits, stopped, stopped | ~single)


def compare(
    reference: Answers,
    other: Answers,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """How another precision does beside fp32 on the same validation images, and whether it may stand in for it.

    labels: int (N,). groups: (N,), what is resampled together.
    accuracy_difference: the other's minus fp32's, {value, low, high} over paired resamples. agreement: share of images
    that both call the same. gate_changed, abstention_changed: shares of images that only one of them stops, or abstains
    from. acceptable: the interval holds 0, the agreement reaches AGREEMENT and gate_changed stays within GATE_CHANGED.
    """
    calls, others = reference.logits.argmax(1), other.logits.argmax(1)
    gained = (others == labels).astype(float) - (calls == labels)
    weights = resample_weights(groups, resamples, seed)
    difference = estimate(float(gained.mean()), weights @ gained / weights.sum(1))
    agreement = float((calls == others).mean())
    gate_changed = float((reference.stopped != other.stopped).mean())
    same_accuracy = difference["low"] <= 0 <= difference["high"]
    return {
        "accuracy_difference": difference,
        "agreement": agreement,
        "acceptable": same_accuracy and agreement >= AGREEMENT and gate_changed <= GATE_CHANGED,
        "gate_changed": gate_changed,
        "abstention_changed": float((reference.abstains != other.abstains).mean()),
    }
