"""Write a package small enough to be published with a run: one network, in the one precision that serves it.

int8 weights stay as they are. Others are stored as 16-bit integers with a scale for each output channel, which OpenVINO
turns back into fp32 when it loads them: half the size at the same speed. (Its own fp16 has three digits, and changed
probabilities of an EfficientNet-B0 by up to 0.02; this changes them by 0.0002.) The graph of guided gradients, twice
the network's size, is left out: such a package explains by Grad-CAM.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mri.base.errors import UserError
from mri.base.files import read_json
from mri.inference.package import ABOUT, GATE, REFERENCE, list_files, write_about
from mri.inference.runtime import PRECISIONS, Runtime, core, read_card, softmax, write_card

LIMIT_MB = 10.0
# How much compact weights may change a probability: what is served equals what was evaluated to within this.
TOLERANCE = 1e-3
# Smaller constants (biases, norms) take little room together, and changing them changes answers the most.
LEAST_VALUES = 10_000


def write(package: Path, target: Path, name: str, pixels: np.ndarray) -> float:
    """Write a package of the network `name` alone to `target`, and return its size in MB.

    pixels: uint8 (N, S, S), images on which its answers are compared with the full package's. Raises UserError, and
    leaves nothing behind, when the result is larger than LIMIT_MB or answers differ by more than TOLERANCE.
    """
    shutil.rmtree(target, ignore_errors=True)
    try:
        return _write(package, target, name, pixels)
    except UserError:
        shutil.rmtree(target)
        raise


def _write(package: Path, target: Path, name: str, pixels: np.ndarray) -> float:
    source, folder = package / "models" / name, target / "models" / name
    card = read_card(source)
    folder.mkdir(parents=True)
    graph = PRECISIONS[card["precision"]][0]
    if card["precision"] == "int8":
        for part in (graph, Path(graph).with_suffix(".bin")):
            shutil.copy(source / part, folder)
    else:
        halve(source / graph, folder / graph)
    shutil.copy(source / GATE, folder)
    write_card(card | {"files": list_files(folder)}, folder)
    if (package / REFERENCE).is_file():
        shutil.copy(package / REFERENCE, target)
    about = read_json(package / ABOUT)
    write_about(about | {"winner": name, "models": [name], "test": {name: about["test"][name]}}, target)
    _check_answers(source, folder, pixels)
    return _check_size(target, name)


def halve(source: Path, target: Path) -> None:
    """Write the OpenVINO graph `source` to `target` with its large constants as 16-bit integers times a scale."""
    import openvino
    from openvino import opset13 as operations

    network = core().read_model(source)
    for constant in list(network.get_ops()):
        if not _is_large(constant):
            continue
        values = constant.data
        scale = np.abs(values).max(tuple(range(1, values.ndim)), keepdims=True) / np.iinfo(np.int16).max
        whole = np.rint(values / np.where(scale == 0, 1, scale)).astype(np.int16)
        restored = operations.multiply(
            operations.convert(operations.constant(whole), "f32"), operations.constant(scale.astype(np.float32))
        )
        for reader in list(constant.output(0).get_target_inputs()):
            reader.replace_source_output(restored.output(0))
    openvino.save_model(network, target, compress_to_fp16=False)


def _is_large(operation: Any) -> bool:
    if operation.get_type_name() != "Constant" or operation.get_element_type().get_type_name() != "f32":
        return False
    return operation.data.size >= LEAST_VALUES


def _check_answers(source: Path, folder: Path, pixels: np.ndarray) -> None:
    before, after = (_probabilities(Runtime(where), pixels) for where in (source, folder))
    difference = float(np.abs(before - after).max())
    if difference > TOLERANCE:
        raise UserError(f"compact weights change a probability of {source.name} by {difference:.4f}: not published")


def _probabilities(runtime: Runtime, pixels: np.ndarray) -> np.ndarray:
    logits = np.concatenate([logits for logits, _ in runtime.in_batches(pixels, 16)])
    return softmax(logits, runtime.card["temperature"])


def _check_size(target: Path, name: str) -> float:
    megabytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6
    if megabytes > LIMIT_MB:
        raise UserError(f"the package of {name} has {megabytes:.1f} MB, more than {LIMIT_MB:g}: not published")
    return megabytes
