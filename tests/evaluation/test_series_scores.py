import pandas as pd

from mri.evaluation.series_scores import score_series

CLASSES = ["glioma", "notumor"]


def table(patients: dict[str, tuple[str, list[float]]]) -> pd.DataFrame:
    """Return a row per slice. patients: {name: (class, probability of a glioma of each slice)}."""
    rows = [(name, label, p, 1 - p) for name, (label, slices) in patients.items() for p in slices]
    return pd.DataFrame(rows, columns=["group", "label", "p_glioma", "p_notumor"])


VAL = table({"a": ("glioma", [0.9, 0.2, 0.1]), "b": ("notumor", [0.1, 0.1]), "c": ("glioma", [0.8])})
TEST = table({"d": ("glioma", [0.95, 0.1, 0.1]), "e": ("notumor", [0.2, 0.1]), "f": ("glioma", [0.1])})


def test_patients_with_several_slices_are_judged_as_the_validation_patients_were_best():
    scores = score_series(VAL, TEST, CLASSES, resamples=10, seed=0)
    assert (scores["n"], scores["val_n"], scores["slices"]) == (2, 2, 2.5)
    assert scores["mean"]["accuracy"]["value"] == 0.5 and scores["pooled"]["accuracy"]["value"] == 1
    assert scores["pooling"]["focus"] > 0


def test_nothing_is_scored_where_every_patient_has_one_slice():
    singles = table({"a": ("glioma", [0.9]), "b": ("notumor", [0.1])})
    assert score_series(singles, TEST, CLASSES, 10, 0) is None
    assert score_series(VAL, singles, CLASSES, 10, 0) is None
