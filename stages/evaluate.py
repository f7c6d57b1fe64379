"""Score one trained network on validation and test images."""

import numpy as np
import pandas as pd

from mri import cli, dataset, models, tracking
from mri.calibration import fit_temperature
from mri.evaluation import summarise
from mri.files import write_csv, write_json
from mri.inference import predict_logits
from mri.params import Params
from mri.paths import METRICS, MODELS, PREDICTIONS, SPLITS
from mri.runtime import softmax


def evaluate(params: Params, arch: str) -> None:
    """Write metrics/evaluate/ARCH.json and artifacts/predictions/ARCH.csv (calibrated probabilities per image)."""
    data = dataset.read(SPLITS, params.data.classes)
    model = models.load(MODELS / arch).model
    parts = {name: data.part(name) for name in ("val", "test")}
    logits = {name: predict_logits(model, part.pixels) for name, part in parts.items()}
    temperature = fit_temperature(logits["val"], parts["val"].labels)
    probabilities = {name: softmax(values, temperature) for name, values in logits.items()}
    table = pd.concat(
        [_predictions(part, name, probabilities[name], data.classes) for name, part in parts.items()], ignore_index=True
    )
    metrics: dict = {name: _score(table[table["split"] == name], data.classes, params) for name in parts}
    if 0 < table.loc[table["split"] == "test", "clean"].sum() < len(parts["test"]):
        metrics["clean"] = _score(table[(table["split"] == "test") & table["clean"]], data.classes, params)
    metrics["temperature"] = temperature
    write_csv(table, PREDICTIONS / f"{arch}.csv", digits=9)
    write_json(metrics, METRICS / "evaluate" / f"{arch}.json")
    with tracking.run(f"evaluate@{arch}", {"stage": "evaluate", "arch": arch, "data": params.data.name}) as run:
        run.params({"seed": params.seed, "arch": arch, "evaluate": params.evaluate.model_dump()})
        run.metrics(metrics)


def _predictions(part: dataset.Part, name: str, probabilities: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """One row per image: who it is, what it is, what the network says, and the calibrated probabilities."""
    frame = part.index[["id", "path", "label", "group", "source", "clean"]].assign(split=name)
    frame["predicted"] = np.array(classes)[probabilities.argmax(1)]
    for i, label in enumerate(classes):
        frame[f"p_{label}"] = probabilities[:, i]
    return frame


def _score(table: pd.DataFrame, classes: list[str], params: Params) -> dict:
    probabilities = table[[f"p_{name}" for name in classes]].to_numpy()
    labels = table["label"].map(classes.index).to_numpy(np.int64)
    return summarise(probabilities, labels, table["group"].to_numpy(), classes, params.evaluate.resamples, params.seed)


if __name__ == "__main__":
    cli.run_stage(evaluate)
