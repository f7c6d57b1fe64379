"""Measure what it costs to run one exported network."""

from mri.base import cli
from mri.base.files import write_json
from mri.base.hardware import describe
from mri.base.params import Params
from mri.base.paths import DETAILS, EXPORTED, MODELS, SPLITS
from mri.data import dataset
from mri.export.benchmark import measure_explanations, measure_runtime
from mri.inference.methods import METHODS
from mri.networks import models
from mri.tracking.run import track


def benchmark(params: Params, arch: str) -> None:
    """Write metrics/details/benchmark/ARCH.json: latency, throughput and memory by runtime, latency by explanation."""
    settings = params.benchmark
    runtimes = {
        name: measure_runtime(name, MODELS / arch, EXPORTED / arch, params.size, settings.batch, settings.seconds)
        for name in settings.runtimes
    }
    model, image = models.load(MODELS / arch).model, dataset.read(SPLITS, params.data.classes).part("val").pixels[:1]
    details = {
        "hardware": describe(),
        "runtimes": runtimes,
        "explanations": measure_explanations(model, image, list(METHODS), settings.seconds / 2),
    }
    path = DETAILS / "benchmark" / f"{arch}.json"
    write_json(details, path)
    with track(f"benchmark@{arch}", {"data": params.data.name}) as run:
        run.file(path, "metrics")


if __name__ == "__main__":
    cli.run_stage(benchmark)
