import numpy as np
import pytest

from mri.quantisation import compare, decide


def logits(calls):
    return np.eye(4)[calls]


LABELS = np.arange(400) % 4


def test_equal_answers_are_acceptable():
    found = compare(logits(LABELS), logits(LABELS), LABELS, np.arange(400), 200, 0)
    assert found == {
        "accuracy_difference": {"value": 0.0, "low": 0.0, "high": 0.0},
        "agreement": 1.0,
        "acceptable": True,
    }


def test_agreement_below_the_limit_is_not_acceptable_though_accuracy_is_the_same():
    first, second = LABELS.copy(), LABELS.copy()
    first[:2] = (first[:2] + 1) % 4
    second[2:4] = (second[2:4] + 1) % 4
    found = compare(logits(first), logits(second), LABELS, np.arange(400), 200, 0)
    assert found["accuracy_difference"]["value"] == 0 and found["agreement"] == 0.99
    assert not found["acceptable"]


def test_a_loss_beyond_its_interval_is_not_acceptable():
    worse = LABELS.copy()
    worse[::10] = (worse[::10] + 1) % 4
    found = compare(logits(LABELS), logits(worse), LABELS, np.arange(400), 200, 0)
    assert found["accuracy_difference"]["value"] == pytest.approx(-0.1)
    assert found["accuracy_difference"]["high"] < 0 and not found["acceptable"]


@pytest.mark.parametrize(
    ("int8", "bf16", "latency", "chosen"),
    [
        (True, True, {"fp32": 3, "bf16": 2, "int8": 9}, "int8"),
        (False, True, {"fp32": 3, "bf16": 2, "int8": 1}, "bf16"),
        (False, False, {"fp32": 3, "bf16": 2, "int8": 1}, "fp32"),
        (False, True, {"fp32": 2, "bf16": 3, "int8": 1}, "fp32"),
    ],
)
def test_int8_serves_where_it_is_as_good_else_the_quicker_of_the_good_ones(int8, bf16, latency, chosen):
    assert decide({"bf16": {"acceptable": bf16}, "int8": {"acceptable": int8}}, latency) == chosen


def test_a_precision_that_was_not_measured_is_not_chosen():
    assert decide({}, {"fp32": 1.0}) == "fp32"
