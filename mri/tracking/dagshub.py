"""The numbers and parameters of a run in the files that DagsHub draws and compares between commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from dagshub.logger import DAGsHubLogger, dagshub_logger

from mri.tracking.run import flatten

METRICS, PARAMS = "metrics.csv", "params.yml"


def write(folder: Path, params: dict[str, Any], scores: dict[str, dict[str, Any]], history: pd.DataFrame) -> None:
    """Write folder/metrics.csv (Name, Value, Timestamp, Step) and folder/params.yml.

    scores: nested numbers per network, shown at step 1. history: epochs of all networks (column architecture), whose
    steps are the epochs.
    """
    logger: DAGsHubLogger
    with dagshub_logger(str(folder / METRICS), hparams_path=str(folder / PARAMS)) as logger:
        logger.log_hyperparams(flatten(params))
        for name, numbers in scores.items():
            logger.log_metrics({f"{name}/{key}": value for key, value in flatten(numbers, "/").items()})
        for row in history.drop(columns="size").to_dict("records"):
            prefix, step = f"{row.pop('architecture')}/epoch", int(row.pop("epoch"))
            logger.log_metrics({f"{prefix}/{key}": value for key, value in row.items()}, step)
