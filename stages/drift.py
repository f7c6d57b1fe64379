"""Learn what the winner's predictions look like when nothing has changed, and measure how soon a change is noticed."""

from dataclasses import replace

import numpy as np

from mri.base import cli
from mri.base.files import read_json, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, DRIFT, EXPORTED, SPLITS
from mri.data import dataset
from mri.evaluation.shifts import shifts
from mri.inference.drift import RATE, delay, fit, observe, project, random_directions, replay
from mri.inference.package import REFERENCE
from mri.inference.runtime import Runtime


def drift(params: Params) -> None:
    """Write artifacts/drift/reference.safetensors (of the winner, on validation images) and metrics/details/drift.json
    (false alarms, and how many images pass before a change raises an alarm)."""
    summary = read_json(DETAILS / "summary.json")
    winner = summary["winner"]
    runtime = Runtime(EXPORTED / winner)
    temperature = read_json(DETAILS / "evaluate" / f"{winner}.json")["temperature"]
    data = dataset.read(SPLITS, params.data.classes)
    val = data.part("val")
    observed, features = observe(runtime, temperature, val.pixels)
    directions = random_directions(features, params.seed)
    observed = replace(observed, projection=project(features, directions))
    groups = val.index["group"].to_numpy()
    about = {"model": winner, "data_version": summary["data_version"]}
    reference = fit(observed, groups, directions, about, params.seed)
    reference.save(DRIFT / REFERENCE)

    streams = {
        name: delay(
            reference,
            observe(runtime, temperature, part.pixels, directions)[0],
            part.index["group"].to_numpy(),
            seed,
        )
        for seed, (name, part) in enumerate(shifts(data.part("test"), params.seed))
        if len(part) >= reference.window
    }
    metrics = {
        "model": winner,
        "images": len(observed),
        "groups": len(np.unique(groups)),
        "window": reference.window,
        "rate_per_signal_and_window": RATE,
        "thresholds": reference.thresholds,
        "false": replay(observed, groups, params.seed),
        "after": streams,
    }
    write_json(metrics, DETAILS / "drift.json")


if __name__ == "__main__":
    cli.run_stage(drift)
