"""Which images an epoch shows, and how often: so that neither a class nor a scanner is known by its frequency."""

from __future__ import annotations

import numpy as np
import pandas as pd

# However rare its kind, an image is shown at most this often an epoch: more would be learned by heart.
MOST = 4.0


def frequencies(index: pd.DataFrame, labels: np.ndarray) -> np.ndarray:
    """Return how often an epoch shows each image on average: float64 (N,), summing to N unless the limit is met.

    Classes come equally often. Within a class half of the images are drawn alike, half alike from every series of every
    source; no image is drawn more often than MOST times.
    index: one row per image, with the columns source and series. labels: int64 (N,).
    """
    strata = pd.DataFrame({"label": labels, "source": index["source"].to_numpy(), "series": index["series"].to_numpy()})
    in_stratum = strata.groupby(list(strata.columns))["label"].transform("size").to_numpy()
    in_class = strata.groupby("label")["label"].transform("size").to_numpy()
    strata_of_class = strata["label"].map(strata.drop_duplicates()["label"].value_counts()).to_numpy()
    share_of_class = 0.5 / in_class + 0.5 / (in_stratum * strata_of_class)
    return np.minimum(share_of_class * len(labels) / len(np.unique(labels)), MOST)


def draw(expected: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the positions of one epoch's images in random order; each occurs `expected` times, rounded up or down.

    expected: float64 (N,), see `frequencies`. Systematic sampling: at least floor(sum(expected)) positions.
    """
    passed = np.floor(np.cumsum(expected) + random.random())
    return random.permutation(np.repeat(np.arange(len(expected)), np.diff(passed, prepend=0).astype(int)))
