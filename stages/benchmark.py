"""Export one trained network for serving, choose its precision, and measure what it costs to run."""

from mri import cli, dataset, headlines, models, tracking
from mri.attribution import METHODS
from mri.benchmarking import measure_explanations, measure_runtime
from mri.dataset import Part
from mri.files import read_json, write_json
from mri.gate import Gate
from mri.guided import export_guided
from mri.hardware import describe
from mri.params import Params
from mri.paths import EXPORTED, GATES, METRICS, MODELS, SPLITS
from mri.quantisation import answers, compare, decide, quantise
from mri.runtime import PRECISIONS, Runtime, export, read_card, write_card


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
    with tracking.run(f"benchmark@{arch}", {"data": params.data.name}) as run:
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
