"""Score one trained network on validation and test images."""

from typing import Any

import numpy as np
import pandas as pd

from mri.base import cli
from mri.base.files import write_csv, write_json
from mri.base.params import Params
from mri.base.paths import DETAILS, MODELS, PREDICTIONS, SPLITS
from mri.data import dataset
from mri.evaluation import confidence, subgroups
from mri.evaluation.answers import calibrate_across_folds
from mri.evaluation.scores import from_table, summarise
from mri.evaluation.screening import screen
from mri.evaluation.series_scores import score_series
from mri.inference import prediction_sets
from mri.inference.package import percent
from mri.inference.runtime import softmax
from mri.networks import models
from mri.networks.predict import predict_logits

ABOUT = ["id", "path", "label", "group", "series", "source", "plane", "clean"]  # of the index, what predictions keep


def evaluate(params: Params, arch: str) -> None:
    """Write artifacts/predictions/ARCH.csv (calibrated probabilities; of validation images, by temperatures that other
    groups gave) and metrics/details/evaluate/ARCH.json."""
    data = dataset.read(SPLITS, params.data.classes)
    model = models.load(MODELS / arch).model
    parts = {name: data.part(name) for name in ("val", "test")}
    logits = {name: predict_logits(model, part.pixels) for name, part in parts.items()}
    temperature = confidence.fit_temperature(logits["val"], parts["val"].labels)
    groups = parts["val"].index["group"]
    probabilities = {
        "val": calibrate_across_folds(logits["val"], parts["val"].labels, groups, params.seed),
        "test": softmax(logits["test"], temperature),
    }
    tables = {name: _predictions(data, part, name, probabilities[name]) for name, part in parts.items()}
    test = tables["test"].assign(relatives=subgroups.relatives(data.index, parts["test"].index))
    metrics = score(params, tables["val"], test) | {"temperature": temperature}
    metrics["calibration"]["unscaled"] = _unscaled(logits["test"], parts["test"], data.classes)
    table = pd.concat(tables.values(), ignore_index=True)
    write_csv(table, PREDICTIONS / f"{arch}.csv", digits=9)
    write_json(metrics, DETAILS / "evaluate" / f"{arch}.json")


def _predictions(data: dataset.Dataset, part: dataset.Part, name: str, probabilities: np.ndarray) -> pd.DataFrame:
    """Return a row per image: identity, label, prediction and calibrated probabilities."""
    frame = part.index.reindex(columns=ABOUT, fill_value="").assign(split=name)
    masked = part.index["mask_row"] >= 0
    frame["lesion"] = np.nan
    frame.loc[masked, "lesion"] = data.masks_of(part.index[masked]).mean((1, 2))
    frame["predicted"] = np.array(data.classes)[probabilities.argmax(1)]
    for i, label in enumerate(data.classes):
        frame[f"p_{label}"] = probabilities[:, i]
    return frame


def score(params: Params, val: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """Return what metrics/details/evaluate/ARCH.json has and predictions alone decide.

    val, test: rows of artifacts/predictions/ARCH.csv; test also with relatives (`mri.evaluation.subgroups.relatives`).
    """
    classes, settings = params.data.classes, (params.evaluate.resamples, params.seed)
    metrics: dict[str, Any] = {"val": _part(val, classes, *settings), "test": _part(test, classes, *settings)}
    probabilities, labels, groups = from_table(test, classes)
    metrics["test"]["patients"] = subgroups.patient_scores(subgroups.patients(test, classes), classes)
    metrics["screening"] = screen(val, test, *settings)
    metrics["calibration"] = {"noise_floor": confidence.noise_floor(probabilities, seed=params.seed)}
    metrics["selective"] = confidence.abstaining_scores(probabilities, labels, groups, *settings)
    metrics["conformal"] = {}
    for promised in params.evaluate.coverage:
        threshold = prediction_sets.fit_threshold(*from_table(val, classes), 1 - promised)
        sets = prediction_sets.prediction_sets(probabilities, threshold)
        scores = prediction_sets.summarise(sets, labels, groups, classes, *settings)
        metrics["conformal"][percent(promised)] = {"threshold": threshold, **scores}
    metrics["test_by"] = subgroups.summaries(test, classes, *settings)
    if series := score_series(val, test, classes, *settings):
        metrics["series"] = series
    return metrics


def _part(table: pd.DataFrame, classes: list[str], resamples: int, seed: int) -> dict[str, Any]:
    scores = summarise(*from_table(table, classes), classes, resamples, seed)
    by_origin = subgroups.recall_by_origin(table, classes, resamples, seed)
    return scores | subgroups.worst_group(by_origin) | {"by_origin": by_origin}


def _unscaled(logits: np.ndarray, part: dataset.Part, classes: list[str]) -> dict[str, float]:
    """Return the scores that calibration is compared with: those at a temperature of 1."""
    scores = summarise(softmax(logits), part.labels, part.index["group"], classes, resamples=1)
    return {name: scores[name] for name in ("nll", "brier", "ece")}


if __name__ == "__main__":
    cli.run_stage(evaluate)
