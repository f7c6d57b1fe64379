"""Score one trained network on validation and test images."""

import numpy as np
import pandas as pd

from mri.base import cli
from mri.base.files import write_csv, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MODELS, PREDICTIONS, SPLITS
from mri.data import dataset
from mri.evaluation import confidence
from mri.evaluation.scores import from_table, summarise
from mri.evaluation.subgroups import relatives, summaries
from mri.inference import prediction_sets
from mri.inference.package import percent
from mri.inference.runtime import softmax
from mri.networks import models
from mri.networks.predict import predict_logits
from mri.tracking.run import track


def evaluate(params: Params, arch: str) -> None:
    """Write artifacts/predictions/ARCH.csv (calibrated probabilities) and metrics/details/evaluate/ARCH.json."""
    data = dataset.read(SPLITS, params.data.classes)
    model = models.load(MODELS / arch).model
    parts = {name: data.part(name) for name in ("val", "test")}
    logits = {name: predict_logits(model, part.pixels) for name, part in parts.items()}
    temperature = confidence.fit_temperature(logits["val"], parts["val"].labels)
    probabilities = {name: softmax(values, temperature) for name, values in logits.items()}
    tables = {name: _predictions(data, part, name, probabilities[name]) for name, part in parts.items()}
    test = tables["test"].assign(relatives=relatives(data.index, parts["test"].index))
    metrics = _metrics(params, tables["val"], test) | {"temperature": temperature}
    metrics["calibration"]["unscaled"] = _unscaled(logits["test"], parts["test"], data.classes)
    table = pd.concat(tables.values(), ignore_index=True)
    write_csv(table, PREDICTIONS / f"{arch}.csv", digits=9)
    write_json(metrics, DETAILS / "evaluate" / f"{arch}.json")
    with track(f"evaluate@{arch}", {"data": params.data.name}) as run:
        run.params({"seed": params.seed, "arch": arch, "evaluate": params.evaluate.model_dump()})
        run.file(DETAILS / "evaluate" / f"{arch}.json", "metrics")


def _predictions(data: dataset.Dataset, part: dataset.Part, name: str, probabilities: np.ndarray) -> pd.DataFrame:
    """Return a row per image: identity, label, prediction and calibrated probabilities."""
    frame = part.index[["id", "path", "label", "group", "source", "plane", "clean"]].assign(split=name)
    masked = part.index["mask_row"] >= 0
    frame["lesion"] = np.nan
    frame.loc[masked, "lesion"] = data.masks_of(part.index[masked]).mean((1, 2))
    frame["predicted"] = np.array(data.classes)[probabilities.argmax(1)]
    for i, label in enumerate(data.classes):
        frame[f"p_{label}"] = probabilities[:, i]
    return frame


def _metrics(params: Params, val: pd.DataFrame, test: pd.DataFrame) -> dict:
    classes, resamples, seed = params.data.classes, params.evaluate.resamples, params.seed
    parts = {"val": val, "test": test}
    metrics: dict = {
        name: summarise(*from_table(table, classes), classes, resamples, seed) for name, table in parts.items()
    }
    probabilities, labels, groups = from_table(test, classes)
    metrics["calibration"] = {"noise_floor": confidence.noise_floor(probabilities, seed=seed)}
    metrics["selective"] = confidence.abstaining_scores(probabilities, labels, groups, resamples, seed)
    metrics["conformal"] = {}
    for promised in params.evaluate.coverage:
        threshold = prediction_sets.fit_threshold(*from_table(val, classes)[:2], 1 - promised)
        sets = prediction_sets.prediction_sets(probabilities, threshold)
        scores = prediction_sets.summarise(sets, labels, groups, classes, resamples, seed)
        metrics["conformal"][percent(promised)] = {"threshold": threshold, **scores}
    metrics["test_by"] = summaries(test, classes, resamples, seed)
    return metrics


def _unscaled(logits: np.ndarray, part: dataset.Part, classes: list[str]) -> dict[str, float]:
    """Return the scores that calibration is compared with: those at a temperature of 1."""
    scores = summarise(softmax(logits), part.labels, part.index["group"], classes, resamples=1)
    return {name: scores[name] for name in ("nll", "brier", "ece")}


if __name__ == "__main__":
    cli.run_stage(evaluate)
