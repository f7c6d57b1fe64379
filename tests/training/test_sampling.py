import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri.training.sampling import MOST, draw, frequencies


def index(*strata: tuple[str, str, int]) -> pd.DataFrame:
    rows = [(label, series) for label, series, n in strata for _ in range(n)]
    return pd.DataFrame(rows, columns=["label", "series"]).assign(source="")


def labels(frame: pd.DataFrame) -> np.ndarray:
    return pd.factorize(frame["label"])[0]


def test_classes_come_equally_often_and_a_rare_series_half_way_to_as_often_as_another():
    frame = index(("glioma", "A", 30), ("glioma", "B", 10), ("pituitary", "B", 20))
    times = frame.assign(times=frequencies(frame, labels(frame))).groupby(["label", "series"])["times"].sum()
    assert times.tolist() == pytest.approx([30 * (0.5 * 0.75 + 0.25), 30 * (0.5 * 0.25 + 0.25), 30])


def test_no_image_is_shown_more_than_the_most_times():
    frame = index(("glioma", "A", 99), ("glioma", "B", 1))
    times = frequencies(frame, labels(frame))
    assert times.max() == times[-1] == MOST


def test_sources_are_told_apart_like_series():
    frame = index(("glioma", "", 8), ("glioma", "", 4))
    frame["source"] = ["here"] * 8 + ["elsewhere"] * 4
    assert frequencies(frame, labels(frame)).tolist() == pytest.approx([0.875] * 8 + [1.25] * 4)


@given(st.lists(st.floats(0, 4), min_size=1, max_size=50), st.integers(0, 2**31))
def test_an_epoch_shows_each_image_as_often_as_expected_to_within_one(expected, seed):
    expected = np.array(expected)
    drawn = draw(expected, np.random.default_rng(seed))
    assert len(drawn) >= np.floor(expected.sum() - 1e-9)
    assert (np.abs(np.bincount(drawn, minlength=len(expected)) - expected) < 1 + 1e-9).all()
