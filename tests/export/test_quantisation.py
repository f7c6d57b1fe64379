import numpy as np
import pytest

from mri.export.quantisation import Outputs, compare, outputs
from mri.inference.gate import Gate


def predicting(classes, stopped=(), unsure=(), confidence=0.97):
    """Return outputs that predict these classes; the gate stops `stopped`, and `unsure` have prediction sets of two."""
    at, others = np.arange(len(classes)), (1 - confidence) / 3
    probabilities = others + (confidence - others) * np.eye(4)[classes]
    return Outputs(probabilities, np.isin(at, stopped), np.isin(at, [*stopped, *unsure]))


LABELS = np.arange(400) % 4


def compared(reference, other):
    return compare(reference, other, LABELS, np.arange(400), 200, 0)


def wrong_at(images):
    classes = LABELS.copy()
    classes[images] = (classes[images] + 1) % 4
    return classes


def test_equal_answers_are_acceptable():
    assert compared(predicting(LABELS), predicting(LABELS)) == {
        "accuracy_difference": {"value": 0.0, "low": 0.0, "high": 0.0},
        "agreement": 1.0,
        "class_changed": 0.0,
        "abstention_changed": 0.0,
        "gate_changed": 0.0,
        "probability_changed": 0.0,
        "acceptable": True,
    }


def test_another_class_counts_only_where_both_answer():
    other = wrong_at(range(3))
    answered = compared(predicting(LABELS), predicting(other))
    assert answered["class_changed"] == 3 / 400 and not answered["acceptable"]
    unsure = compared(predicting(LABELS, unsure=range(3)), predicting(other, unsure=range(3)))
    assert (unsure["class_changed"], unsure["agreement"], unsure["acceptable"]) == (0, 397 / 400, True)


def test_a_loss_of_accuracy_beyond_the_margin_is_not_acceptable_though_nothing_of_it_is_answered():
    lost = compared(predicting(LABELS, unsure=range(12)), predicting(wrong_at(range(12)), unsure=range(12)))
    assert lost["class_changed"] == 0 and lost["accuracy_difference"]["low"] < -0.02 and not lost["acceptable"]
    gained = compared(predicting(wrong_at(range(12)), unsure=range(12)), predicting(LABELS, unsure=range(12)))
    assert gained["accuracy_difference"]["low"] > 0 and gained["acceptable"]


def test_probabilities_may_not_change_much():
    sure, less = predicting(LABELS), [predicting(LABELS, confidence=confidence) for confidence in (0.88, 0.86)]
    assert [compared(sure, each)["acceptable"] for each in less] == [True, False]
    assert compared(sure, less[0])["probability_changed"] == pytest.approx(0.09)


def test_a_gate_that_stops_other_images_and_abstentions_that_change_are_not_acceptable():
    within, beyond = (compared(predicting(LABELS), predicting(LABELS, stopped=range(n))) for n in (8, 9))
    assert (within["gate_changed"], within["acceptable"]) == (0.02, True)
    assert beyond["agreement"] == 1 and not beyond["acceptable"]
    within, beyond = (compared(predicting(LABELS), predicting(LABELS, unsure=range(n))) for n in (12, 13))
    assert (within["abstention_changed"], within["acceptable"]) == (0.03, True)
    assert beyond["gate_changed"] == 0 and not beyond["acceptable"]


def test_answers_are_the_gates_and_the_prediction_sets():
    """Three images: one beyond the gate, one with two classes in its set, one answered."""
    pooled = np.array([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], np.float32)
    logits = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1]]))
    gate = Gate(np.array([[0, 1, 0, 0]], np.float32), bias=np.zeros(1), threshold=0.5)
    answers = outputs(logits, pooled, gate, temperature=1.0, threshold=0.3)
    assert answers.stopped.tolist() == [True, False, False]
    assert answers.abstains.tolist() == [True, True, False]
