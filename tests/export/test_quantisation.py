from types import SimpleNamespace

import numpy as np
import pytest

from mri.export.quantisation import Outputs, compare, outputs
from mri.inference.gate import Gate


def predicting(classes, stopped=(), unsure=()):
    """Return outputs that predict these classes; the gate stops `stopped`, and `unsure` have prediction sets of two."""
    at = np.arange(len(classes))
    return Outputs(np.eye(4)[classes], np.isin(at, stopped), np.isin(at, [*stopped, *unsure]))


LABELS = np.arange(400) % 4


def test_equal_answers_are_acceptable():
    comparison = compare(predicting(LABELS), predicting(LABELS), LABELS, np.arange(400), 200, 0)
    assert comparison == {
        "accuracy_difference": {"value": 0.0, "low": 0.0, "high": 0.0},
        "agreement": 1.0,
        "acceptable": True,
        "gate_changed": 0.0,
        "abstention_changed": 0.0,
    }


def test_agreement_below_the_limit_is_not_acceptable_though_accuracy_is_the_same():
    first, second = LABELS.copy(), LABELS.copy()
    first[:2] = (first[:2] + 1) % 4
    second[2:4] = (second[2:4] + 1) % 4
    comparison = compare(predicting(first), predicting(second), LABELS, np.arange(400), 200, 0)
    assert comparison["accuracy_difference"]["value"] == 0 and comparison["agreement"] == 0.99
    assert not comparison["acceptable"]


def test_a_loss_beyond_its_interval_is_not_acceptable():
    worse = LABELS.copy()
    worse[::10] = (worse[::10] + 1) % 4
    comparison = compare(predicting(LABELS), predicting(worse), LABELS, np.arange(400), 200, 0)
    assert comparison["accuracy_difference"]["value"] == pytest.approx(-0.1)
    assert comparison["accuracy_difference"]["high"] < 0 and not comparison["acceptable"]


def test_what_a_precision_changes_of_gate_and_abstention_is_told_beside_the_decision():
    reference, other = (
        predicting(LABELS, stopped=[0, 1, 2, 3], unsure=[4]),
        predicting(LABELS, stopped=[2, 3, 4], unsure=[0, 5]),
    )
    comparison = compare(reference, other, LABELS, np.arange(400), 200, 0)
    assert comparison["gate_changed"] == 3 / 400  # 0, 1 and 4
    assert comparison["abstention_changed"] == 2 / 400  # 1 and 5: others abstain either way
    assert comparison["acceptable"]


def test_a_gate_that_stops_other_images_is_not_acceptable_though_every_class_is_the_same():
    within = compare(predicting(LABELS), predicting(LABELS, stopped=range(8)), LABELS, np.arange(400), 200, 0)
    beyond = compare(predicting(LABELS), predicting(LABELS, stopped=range(9)), LABELS, np.arange(400), 200, 0)
    assert (within["gate_changed"], within["acceptable"]) == (0.02, True)
    assert beyond["agreement"] == 1 and not beyond["acceptable"]


def test_answers_are_the_gates_and_the_prediction_sets():
    """Three images: one beyond the gate, one with two classes in its set, one answered."""

    features = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], np.float32)[:, :, None, None]
    logits = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1]]))
    runtime = SimpleNamespace(in_batches=lambda pixels: [(logits, features)])

    mean, axes = np.array([1, 0, 0, 0], np.float32), np.zeros((1, 4), np.float16)
    gate = Gate(mean, axes, np.ones(1, np.float32), rest=1.0, threshold=0.5)
    answers = outputs(runtime, np.zeros((3, 8, 8), np.uint8), gate, temperature=1.0, threshold=0.3)
    assert answers.stopped.tolist() == [True, False, False]
    assert answers.abstains.tolist() == [True, True, False]
