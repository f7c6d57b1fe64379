"""Export one trained network for serving and measure what it costs to run."""

from mri import cli, dataset, headlines, models, tracking
from mri.attribution import METHODS
from mri.benchmarking import measure_explanations, measure_runtime
from mri.files import read_json, write_json
from mri.hardware import describe
from mri.params import Params
from mri.paths import EXPORTED, METRICS, MODELS, SPLITS
from mri.runtime import export


def benchmark(params: Params, arch: str) -> None:
    """Write artifacts/exported/ARCH (OpenVINO) and metrics/benchmark/ARCH.json."""
    settings = params.benchmark
    weights, exported = MODELS / arch, EXPORTED / arch
    saved = models.load(weights)
    temperature = read_json(METRICS / "evaluate" / f"{arch}.json")["temperature"]
    export(saved.model, saved.classes, params.size, exported, {"temperature": temperature, **saved.extra})
    pixels = dataset.read(SPLITS, params.data.classes).part("val").pixels[: settings.batch]
    runtimes = {
        name: measure_runtime(name, weights, exported, params.size, settings.batch, settings.seconds)
        for name in settings.runtimes
    }
    metrics = {
        "hardware": describe(),
        "params": models.parameter_count(saved.model),
        "gmac": models.gmac(saved.model, params.size),
        "size_px": params.size,
        "runtimes": runtimes,
        "explanations": measure_explanations(saved.model, pixels[:1], list(METHODS), settings.seconds / 2),
    }
    write_json(metrics, METRICS / "benchmark" / f"{arch}.json")
    with tracking.run(f"benchmark@{arch}", {"data": params.data.name}) as run:
        run.params({"benchmark": settings.model_dump()})
        run.metrics(headlines.costs(metrics, params.select.runtime))
        run.file(METRICS / "benchmark" / f"{arch}.json", "metrics")


if __name__ == "__main__":
    cli.run_stage(benchmark)
