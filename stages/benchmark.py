"""Export one trained network for serving, choose its precision, and measure what it costs to run."""

from mri.base import cli
from mri.base.files import read_json, write_json
from mri.base.hardware import describe
from mri.base.params import Params
from mri.base.paths import EXPORTED, GATES, METRICS, MODELS, SPLITS
from mri.data import dataset
from mri.data.dataset import Part
from mri.explanation.maps import METHODS
from mri.export.benchmark import measure_explanations, measure_runtime
from mri.export.guided import export_guided
from mri.export.openvino import export
from mri.export.quantisation import answers, compare, decide, quantise
from mri.inference.gate import Gate
from mri.inference.runtime import PRECISIONS, Runtime, read_card, write_card
from mri.networks import models
from mri.report import headlines
from mri.tracking.run import track


def benchmark(params: Params, arch: str) -> None:
    """Write artifacts/exported/ARCH (OpenVINO, whose card names the precision that serves) and
    metrics/benchmark/ARCH.json."""
    settings = params.benchmark
    weights, exported = MODELS / arch, EXPORTED / arch
    saved = models.load(weights)
    val = dataset.read(SPLITS, params.data.classes).part("val")
    export(saved.model, saved.classes, params.size, exported, saved.extra)
    precisions = [name for name in PRECISIONS if f"openvino_{name}" in settings.runtimes]
    if "int8" in precisions:
        quantise(exported, val.pixels)
    if not export_guided(saved.model, val.pixels[: settings.batch], exported):
        print(f"{arch}: OpenVINO doesn't give PyTorch's guided gradient; the service will do without guided maps")
    runtimes = {
        name: measure_runtime(name, weights, exported, params.size, settings.batch, settings.seconds)
        for name in settings.runtimes
    }
    compared = _compare(params, arch, val, precisions)
    latency = {name: runtimes[f"openvino_{name}"]["latency_ms_p50"] for name in precisions}
    precision = decide(compared, latency)
    write_card(read_card(exported) | {"precision": precision}, exported)
    metrics = {
        "hardware": describe(),
        "params": models.parameter_count(saved.model),
        "gmac": models.gmac(saved.model, params.size),
        "size_px": params.size,
        "served": precision,
        "precisions": compared,
        "runtimes": runtimes,
        "explanations": measure_explanations(saved.model, val.pixels[:1], list(METHODS), settings.seconds / 2),
    }
    write_json(metrics, METRICS / "benchmark" / f"{arch}.json")
    with track(f"benchmark@{arch}", {"data": params.data.name}) as run:
        run.params({"benchmark": settings.model_dump()})
        run.metrics(headlines.costs(metrics, f"openvino_{precision}"))
        run.file(METRICS / "benchmark" / f"{arch}.json", "metrics")


def _compare(params: Params, arch: str, val: Part, precisions: list[str]) -> dict[str, dict]:
    """Every other precision beside fp32, on all validation images, with the gate and the widest sets that serve."""
    gate, fitted = Gate.load(GATES / f"{arch}.safetensors"), read_json(METRICS / "evaluate" / f"{arch}.json")
    threshold = fitted["conformal"][max(fitted["conformal"], key=float)]["threshold"]
    said = {
        name: answers(Runtime(EXPORTED / arch, name), val.pixels, gate, fitted["temperature"], threshold)
        for name in precisions
    }
    groups = val.index["group"].to_numpy()
    resamples, seed = params.evaluate.resamples, params.seed
    return {
        name: compare(said["fp32"], said[name], val.labels, groups, resamples, seed)
        for name in precisions
        if name != "fp32"
    }


if __name__ == "__main__":
    cli.run_stage(benchmark)
