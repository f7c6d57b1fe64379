"""Export one trained network to OpenVINO, fit its gate, and choose the level of coverage at which it answers and the
precision in which it is served."""

from typing import Any

import numpy as np

from mri.base import cli
from mri.base.files import read_json, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, EXPORTED, GATES, MODELS, PREDICTIONS, SPLITS
from mri.data import dataset
from mri.data.dataset import Part
from mri.evaluation.answers import answers_by_level
from mri.evaluation.gate_fitting import fit_gate
from mri.evaluation.predictions import read
from mri.evaluation.scores import from_table
from mri.evaluation.strange_images import make_families
from mri.export.benchmark import repeat
from mri.export.guided import export_guided
from mri.export.openvino import export as export_network
from mri.export.quantisation import compare, outputs, quantise
from mri.inference.gate import Gate
from mri.inference.runtime import PRECISIONS, Runtime, read_card, write_card
from mri.networks import models

# Of one image in one precision: logits, float32 (N, C), and pooled features, float32 (N, D).
Answers = tuple[np.ndarray, np.ndarray]
GUIDED_IMAGES = 4  # on which guided maps are compared with PyTorch's


def export(params: Params, arch: str) -> None:
    """Write artifacts/exported/ARCH, whose card names the served precision, artifacts/gates/ARCH.safetensors (what
    stops images of another kind), and metrics/details/export/ARCH.json (costs, precisions, and what is answered)."""
    exported = EXPORTED / arch
    saved = models.load(MODELS / arch)
    data = dataset.read(SPLITS, params.data.classes)
    val, test = data.part("val"), data.part("test")
    export_network(saved.model, saved.classes, params.size, exported, saved.extra)
    precisions = [name for name in PRECISIONS if f"openvino_{name}" in params.benchmark.runtimes]
    if "int8" in precisions:
        quantise(exported, val.pixels)
    if not export_guided(saved.model, val.pixels[:GUIDED_IMAGES], exported):
        print(f"{arch}: OpenVINO doesn't give PyTorch's guided gradient; the service will do without guided maps")
    runtimes = {name: Runtime(exported, name) for name in precisions}
    answers = {name: runtime.logits_and_pooled(val.pixels) for name, runtime in runtimes.items()}
    gate = _fit_gate(params, runtimes["fp32"], data.part("train"), answers["fp32"][1])
    gate.save(GATES / f"{arch}.safetensors")
    pooled = {"val": answers["fp32"][1], "test": runtimes["fp32"].logits_and_pooled(test.pixels)[1]}
    passed = {name: gate.passes(values) for name, values in pooled.items()}
    answered = _answered(params, arch, passed, {"val": val, "test": test})
    compared = _compare(params, arch, answered["level"], val, gate, answers)
    acceptable = ["fp32", *(name for name in compared if compared[name]["acceptable"])]
    precision = _quickest({name: runtimes[name] for name in acceptable}, params.benchmark.seconds)
    write_card(read_card(exported) | {"precision": precision}, exported)
    details = {
        "params": models.parameter_count(saved.model),
        "gmac": models.gmac(saved.model, params.size),
        "size_px": params.size,
        "served": precision,
        "precisions": compared,
        "answers": answered,
    }
    write_json(details, DETAILS / "export" / f"{arch}.json")


def _fit_gate(params: Params, runtime: Runtime, train: Part, val: np.ndarray) -> Gate:
    """Fit the gate on training images, strange ones made from them, and the features of validation images."""
    chosen = train.sample(params.robustness.gate_training, params.seed)
    families = make_families(chosen.pixels, params.seed)
    strange = {name: runtime.logits_and_pooled(pixels)[1] for name, pixels in families.items()}
    return fit_gate(runtime.logits_and_pooled(chosen.pixels)[1], strange, val)


def _answered(params: Params, arch: str, passed: dict[str, np.ndarray], parts: dict[str, Part]) -> dict[str, Any]:
    """Choose the level of coverage. passed: bool (N,), by the gate, of the images of "val" and "test"."""
    classes, table = params.data.classes, read(PREDICTIONS / f"{arch}.csv").set_index("id")
    val, test = (from_table(table.loc[parts[name].index["id"]], classes) for name in ("val", "test"))
    conformal = read_json(DETAILS / "evaluate" / f"{arch}.json")["conformal"]
    thresholds = {level: sets["threshold"] for level, sets in conformal.items()}
    return answers_by_level(val, test, passed, thresholds, classes, params.evaluate.resamples, params.seed)


def _compare(
    params: Params, arch: str, level: str, val: Part, gate: Gate, answers: dict[str, Answers]
) -> dict[str, dict]:
    """Compare every other precision with fp32 on validation images, with the gate and its level of prediction sets."""
    fitted = read_json(DETAILS / "evaluate" / f"{arch}.json")
    threshold = fitted["conformal"][level]["threshold"]
    decided = {name: outputs(*each, gate, fitted["temperature"], threshold) for name, each in answers.items()}
    reference, groups = decided.pop("fp32"), val.index["group"].to_numpy()
    return {
        name: compare(reference, other, val.labels, groups, params.evaluate.resamples, params.seed)
        for name, other in decided.items()
    }


def _quickest(runtimes: dict[str, Runtime], seconds: float) -> str:
    """Return the precision that answers one image soonest; nothing is timed where there is no choice."""
    if len(runtimes) == 1:
        return next(iter(runtimes))
    latency = {name: _latency(runtime, seconds) for name, runtime in runtimes.items()}
    return min(latency, key=lambda name: latency[name])


def _latency(runtime: Runtime, seconds: float) -> float:
    """Return the median time in seconds of one image, beside PyTorch, which slows every precision down alike."""
    image = np.zeros((1, runtime.size, runtime.size), np.uint8)
    return float(np.median(repeat(lambda: runtime(image), seconds)))


if __name__ == "__main__":
    cli.run_stage(export)
