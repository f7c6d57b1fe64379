"""Learn what the winner's predictions look like when nothing has changed, and measure how soon a change is noticed."""

from collections.abc import Iterator

import numpy as np

from mri.base import cli
from mri.base.files import read_json, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, DRIFT, EXPORTED, SPLITS
from mri.data import dataset
from mri.data.dataset import Part, batches
from mri.evaluation.corruptions import corrupt
from mri.inference.drift import RATE, Sample, delay, fit, image_statistics, project, random_directions, replay
from mri.inference.gate import pool
from mri.inference.runtime import Runtime, softmax

# What happens to test images before the winner sees them: corruptions of `mri.evaluation.corruptions` with their
# severities.
CHANGES = {
    "contrast_mild": {"contrast": 1},
    "contrast": {"contrast": 3},
    "noise_mild": {"noise": 1},
    "noise": {"noise": 3},
    "another_scanner": {"bias_field": 3, "blur": 2, "gamma": 2},
}
SHARE_OF_ONE_CLASS = 0.7


def drift(params: Params) -> None:
    """Write artifacts/drift/reference.safetensors (of the winner, on validation images) and metrics/details/drift.json
    (false alarms, and how many images pass before a change raises an alarm)."""
    summary = read_json(DETAILS / "summary.json")
    winner = summary["winner"]
    runtime = Runtime(EXPORTED / winner)
    temperature = read_json(DETAILS / "evaluate" / f"{winner}.json")["temperature"]
    data = dataset.read(SPLITS, params.data.classes)
    val = data.part("val")
    sample, features = _predict(runtime, temperature, val.pixels, None)
    directions = random_directions(features, params.seed)
    sample = Sample(sample.labels, sample.confidence, sample.statistics, project(features, directions))
    groups = val.index["group"].to_numpy()
    about = {"model": winner, "data_version": summary["data_version"]}
    reference = fit(sample, groups, directions, about, params.seed)
    reference.save(DRIFT / "reference.safetensors")

    streams = {
        name: delay(
            reference,
            _predict(runtime, temperature, part.pixels, directions)[0],
            part.index["group"].to_numpy(),
            seed,
        )
        for seed, (name, part) in enumerate(_changed(data, params.seed))
        if len(part) >= reference.window
    }
    metrics = {
        "model": winner,
        "images": len(sample),
        "groups": len(np.unique(groups)),
        "window": reference.window,
        "rate_per_signal_and_window": RATE,
        "thresholds": reference.thresholds,
        "false": replay(sample, groups, params.seed),
        "after": streams,
    }
    write_json(metrics, DETAILS / "drift.json")


def _predict(
    runtime: Runtime, temperature: float, pixels: np.ndarray, directions: np.ndarray | None
) -> tuple[Sample, np.ndarray]:
    """What the service would record of prepared images, and their pooled features; no projection without directions."""
    outputs = [runtime(pixels[rows]) for rows in batches(len(pixels), 32)]
    probabilities = np.concatenate([softmax(logits, temperature) for logits, _ in outputs])
    features = np.concatenate([pool(maps) for _, maps in outputs])
    projection = features[:, :0] if directions is None else project(features, directions)
    confidence = probabilities.max(1).astype(np.float32)
    return Sample(probabilities.argmax(1), confidence, image_statistics(pixels), projection), features


def _changed(data: dataset.Dataset, seed: int) -> Iterator[tuple[str, Part]]:
    """Test images, unchanged first and then as each change leaves them."""
    test = data.part("test")
    yield "nothing", test
    for name, corruptions in CHANGES.items():
        pixels = test.pixels
        for corruption, severity in corruptions.items():
            pixels = corrupt(pixels, corruption, severity, seed)
        yield name, Part(test.index, pixels, test.labels)
    yield "class_mix", _tilted(test)
    sources = test.index["source"].to_numpy()
    for source in np.unique(sources) if len(np.unique(sources)) > 1 else ():
        yield f"source_{source}", _rows(test, sources == source)


def _tilted(part: Part) -> Part:
    """The images of the first class, and of the others as few as leave it SHARE_OF_ONE_CLASS."""
    first = part.labels == 0
    others = np.flatnonzero(~first)[:: max(1, round((~first).sum() / (first.sum() * (1 / SHARE_OF_ONE_CLASS - 1))))]
    return _rows(part, np.sort(np.concatenate([np.flatnonzero(first), others])))


def _rows(part: Part, rows: np.ndarray) -> Part:
    return Part(part.index[rows] if rows.dtype == bool else part.index.iloc[rows], part.pixels[rows], part.labels[rows])


if __name__ == "__main__":
    cli.run_stage(drift)
