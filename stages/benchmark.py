"""Measure what it costs to run one exported network."""

from mri.base import cli
from mri.base.files import write_json
from mri.base.hardware import describe
from mri.base.params import Params
from mri.base.paths import DETAILS, EXPORTED, MODELS
from mri.export.benchmark import PYTORCH, measure_runtime


def benchmark(params: Params, arch: str) -> None:
    """Write metrics/details/benchmark/ARCH.json: latency, throughput and memory by runtime, latency by explanation."""
    settings = params.benchmark
    measured = {
        name: measure_runtime(name, MODELS / arch, EXPORTED / arch, params.size, settings.batch, settings.seconds)
        for name in dict.fromkeys([PYTORCH, *settings.runtimes])  # which alone makes every kind of map
    }
    explanations = measured[PYTORCH].pop("explanations")
    runtimes = {name: measured[name] for name in settings.runtimes}
    details = {"hardware": describe(), "runtimes": runtimes, "explanations": explanations}
    write_json(details, DETAILS / "benchmark" / f"{arch}.json")


if __name__ == "__main__":
    cli.run_stage(benchmark)
