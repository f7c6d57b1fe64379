import numpy as np
import pytest

from mri.evaluation.shifts import estimation
from mri.inference.drift import Observations


def observed(labels: list[int], confidence: list[float]) -> Observations:
    nothing = np.empty((len(labels), 0), np.float32)
    return Observations(np.array(labels), np.array(confidence, np.float32), nothing, nothing)


def test_estimated_and_true_accuracy_of_each_shift_and_the_errors_over_all():
    shifted = {
        "nothing": (observed([0, 1, 2, 3], [0.9, 0.8, 0.9, 0.3]), np.array([0, 1, 2, 0])),
        "noise": (observed([0, 1], [0.9, 0.5]), np.array([1, 0])),
    }
    scores = estimation(0.5, shifted)
    assert scores["shifts"] == {
        "nothing": {"images": 4, "estimated": 0.75, "true": 0.75},
        "noise": {"images": 2, "estimated": 0.5, "true": 0.0},
    }
    assert scores["mean_error"] == pytest.approx(0.25) and scores["largest_error"] == 0.5
