"""Export one trained network to OpenVINO and choose the precision in which it is served."""

from mri.base import cli
from mri.base.files import read_json, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, EXPORTED, GATES, MODELS, SPLITS
from mri.data import dataset
from mri.data.dataset import Part
from mri.export.benchmark import measure_runtime
from mri.export.guided import export_guided
from mri.export.openvino import export as export_network
from mri.export.quantisation import compare, outputs, quantise
from mri.inference.gate import Gate
from mri.inference.runtime import PRECISIONS, Runtime, read_card, write_card
from mri.networks import models
from mri.tracking.run import track


def export(params: Params, arch: str) -> None:
    """Write artifacts/exported/ARCH, whose card names the served precision, and metrics/details/export/ARCH.json."""
    settings = params.benchmark
    exported = EXPORTED / arch
    saved = models.load(MODELS / arch)
    val = dataset.read(SPLITS, params.data.classes).part("val")
    export_network(saved.model, saved.classes, params.size, exported, saved.extra)
    precisions = [name for name in PRECISIONS if f"openvino_{name}" in settings.runtimes]
    if "int8" in precisions:
        quantise(exported, val.pixels)
    if not export_guided(saved.model, val.pixels[: settings.batch], exported):
        print(f"{arch}: OpenVINO doesn't give PyTorch's guided gradient; the service will do without guided maps")
    compared = _compare(params, arch, val, precisions)
    precision = _quickest(params, arch, ["fp32", *(name for name in compared if compared[name]["acceptable"])])
    write_card(read_card(exported) | {"precision": precision}, exported)
    details = {
        "params": models.parameter_count(saved.model),
        "gmac": models.gmac(saved.model, params.size),
        "size_px": params.size,
        "served": precision,
        "precisions": compared,
    }
    path = DETAILS / "export" / f"{arch}.json"
    write_json(details, path)
    with track(f"export@{arch}", {"data": params.data.name}) as run:
        run.params({"benchmark": settings.model_dump()})
        run.file(path, "metrics")


def _compare(params: Params, arch: str, val: Part, precisions: list[str]) -> dict[str, dict]:
    """Compare every other precision with fp32 on validation images, with the gate and the widest prediction sets."""
    gate, fitted = Gate.load(GATES / f"{arch}.safetensors"), read_json(DETAILS / "evaluate" / f"{arch}.json")
    threshold = fitted["conformal"][max(fitted["conformal"], key=float)]["threshold"]
    by_precision = {
        name: outputs(Runtime(EXPORTED / arch, name), val.pixels, gate, fitted["temperature"], threshold)
        for name in precisions
    }
    reference, groups = by_precision.pop("fp32"), val.index["group"].to_numpy()
    return {
        name: compare(reference, other, val.labels, groups, params.evaluate.resamples, params.seed)
        for name, other in by_precision.items()
    }


def _quickest(params: Params, arch: str, acceptable: list[str]) -> str:
    """Return the quickest of the precisions that may serve; nothing is timed where there is no choice."""
    if len(acceptable) == 1:
        return acceptable[0]
    settings = params.benchmark
    latency = {
        name: measure_runtime(
            f"openvino_{name}", MODELS / arch, EXPORTED / arch, params.size, settings.batch, settings.seconds
        )["latency_ms_p50"]
        for name in acceptable
    }
    return min(acceptable, key=lambda name: latency[name])


if __name__ == "__main__":
    cli.run_stage(export)
