"""Predictions of all networks in one table, small enough to publish, from which every score can be computed again.

A row is a validation or test image: what is known of it, and a column NETWORK:CLASS for each probability.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mri.base.files import write_csv

# What is published of each image; networks agree on it.
ABOUT = ["id", "split", "label", "group", "series", "source", "plane", "lesion"]
DIGITS = 9


def read(path: Path) -> pd.DataFrame:
    """Read artifacts/predictions/ARCH.csv or predictions.csv; text is "" and a lesion's size NaN where unknown."""
    text = dict.fromkeys(("id", "group", "series", "source", "plane"), str)
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"lesion": [""]})


def write_joined(tables: dict[str, pd.DataFrame], classes: list[str], path: Path) -> None:
    """Write the predictions of all networks, {network: table as `read` returns it}, of the same images."""
    first = next(iter(tables.values()))
    columns = {f"{name}:{label}": table[f"p_{label}"] for name, table in tables.items() for label in classes}
    write_csv(first.reindex(columns=ABOUT, fill_value="").assign(**columns), path, DIGITS)


def of_network(joined: pd.DataFrame, network: str, classes: list[str]) -> pd.DataFrame:
    """Return the predictions of one network: ABOUT, predicted and p_CLASS, as scores are computed from."""
    table = joined[ABOUT].copy()
    for label in classes:
        table[f"p_{label}"] = joined[f"{network}:{label}"]
    probabilities = table[[f"p_{label}" for label in classes]].to_numpy()
    return table.assign(predicted=np.array(classes)[probabilities.argmax(1)])
