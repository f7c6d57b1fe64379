import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri.evaluation.comparison import (
    NOT_DISTINGUISHABLE,
    SCORES,
    bootstrap_p_value,
    compare,
    compare_values,
    holm,
    mcnemar,
)

P_VALUES = st.lists(st.floats(0, 1), max_size=8)


def calls(labels: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return the predictions of a model that errs on the images `wrong`."""
    called = labels.copy()
    called[wrong] = (called[wrong] + 1) % 4
    return called


@pytest.mark.parametrize(
    ("first", "second", "p"),
    # The first three are the least numbers of images that reach 5 %, or fail to, all one way.
    [(4, 0, 0.125), (5, 0, 0.0625), (6, 0, 0.03125), (7, 3, 0.34375), (20, 8, 0.0357), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_mcnemar_has_its_known_values(first, second, p):
    assert mcnemar(first, second) == pytest.approx(p, abs=5e-5)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_holm_multiplies_by_the_number_of_tests_left_and_never_falls():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    assert holm([]).shape == (0,)


@given(P_VALUES)
def test_holm_keeps_the_order_and_lies_between_the_p_value_and_bonferroni(p_values):
    plain, corrected = np.array(p_values), holm(p_values)
    assert (corrected >= plain).all()
    assert (corrected <= np.minimum(1, plain * len(plain))).all()
    assert (np.diff(corrected[np.argsort(plain)]) >= 0).all()


def test_bootstrap_p_value_doubles_the_rarer_side():
    differences = np.array([-1.0] * 9 + [1.0] * 190)
    assert bootstrap_p_value(differences) == pytest.approx(2 * 10 / 200)
    assert bootstrap_p_value(-differences) == bootstrap_p_value(differences)
    assert bootstrap_p_value(np.ones(1999)) == 0.001
    assert bootstrap_p_value(np.zeros(50)) == 1.0
    assert bootstrap_p_value(np.append(differences, np.nan)) == bootstrap_p_value(differences)


def test_three_errors_and_seven_of_1311_are_not_distinguishable():
    labels = np.arange(1311) % 4  # published accuracies of 99.8 and 99.5 %, the errors as favourable as they can be
    predicted = {"better": calls(labels, np.arange(3)), "worse": calls(labels, np.arange(7))}
    pair = compare(predicted, labels, np.arange(1311), 4)[0]
    assert (pair.only_first_right, pair.only_second_right) == (4, 0)
    assert pair.difference["value"] == pytest.approx(4 / 1311)
    assert pair.p_mcnemar == 0.125
    assert pair.verdict == NOT_DISTINGUISHABLE


def test_a_clear_winner_is_named_whichever_comes_first():
    labels = np.arange(200) % 4
    good, bad = calls(labels, np.arange(4)), calls(labels, np.arange(40))
    for score in SCORES:
        for order in (["good", "bad"], ["bad", "good"]):
            predicted = {name: {"good": good, "bad": bad}[name] for name in order}
            pair = compare(predicted, labels, np.arange(200), 4, score)[0]
            assert pair.verdict == "good better"
            lead = 1 if order[0] == "good" else -1
            assert lead * pair.difference["low"] > 0 and lead * pair.difference["high"] > 0
            assert lead * pair.difference["value"] == pytest.approx(36 / 200, abs=0.01)


def test_images_of_few_patients_are_not_enough_though_mcnemar_says_so():
    labels = np.arange(120) % 4
    predicted = {"good": labels, "bad": calls(labels, np.arange(40))}  # all errors are one patient's
    patients = np.repeat(["a", "b", "c"], 40)
    pair = compare(predicted, labels, patients, 4)[0]
    assert pair.p_mcnemar < 1e-9
    assert pair.p_bootstrap > 0.5  # the patient is not drawn in (2/3)^3 of resamples
    assert pair.verdict == NOT_DISTINGUISHABLE


def test_more_models_need_more_evidence():
    labels = np.arange(400) % 4
    good, bad = labels, calls(labels, np.arange(7))
    alone = compare({"good": good, "bad": bad}, labels, np.arange(400), 4)[0]
    among = compare({"good": good, "bad": bad, "x": good, "y": bad}, labels, np.arange(400), 4)
    assert alone.p_mcnemar == pytest.approx(2 / 2**7)
    assert alone.verdict == "good better"
    assert [(pair.first, pair.second) for pair in among] == [
        *(("good", "bad"), ("good", "x"), ("good", "y"), ("bad", "x"), ("bad", "y"), ("x", "y"))
    ]
    assert among[0].p_mcnemar == pytest.approx(6 * 2 / 2**7)
    assert {pair.verdict for pair in among} == {NOT_DISTINGUISHABLE}


def test_equal_models_do_not_differ():
    labels = np.arange(40) % 4
    pair = compare({"a": labels, "b": labels}, labels, np.arange(40), 4, "macro_f1")[0]
    assert pair.difference == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert (pair.p_mcnemar, pair.p_bootstrap, pair.verdict) == (1.0, 1.0, NOT_DISTINGUISHABLE)


def test_macro_f1_and_accuracy_weigh_a_rare_class_differently():
    labels = np.array([0] * 90 + [1] * 10)
    predicted = {"all": labels, "common": np.zeros(100, int)}
    by_accuracy, by_macro_f1 = (compare(predicted, labels, np.arange(100), 2, score)[0] for score in SCORES)
    assert by_accuracy.difference["value"] == pytest.approx(0.1)
    assert by_macro_f1.difference["value"] == pytest.approx(1 - (180 / 190) / 2)


def test_scores_of_single_images_are_compared_on_those_that_both_have():
    """a leads b by 1 on each of ten shared images, each a group; c is b, but for one image that it lacks."""
    a, b = np.full(11, 2.0), np.full(11, 1.0)
    a[10] = np.nan
    c = b.copy()
    c[0] = np.nan
    ab, ac, bc = compare_values({"a": a, "b": b, "c": c}, np.arange(11), resamples=999)
    assert (ab["n"], ac["n"], bc["n"]) == (10, 9, 10)
    assert ab["difference"] == {"value": 1, "low": 1, "high": 1} and ab["verdict"] == "a better"
    assert ab["p_bootstrap"] == pytest.approx(3 * 2 / 1000)  # the least there is, corrected for three pairs
    assert (bc["p_bootstrap"], bc["verdict"]) == (1, NOT_DISTINGUISHABLE)


def test_models_without_a_shared_image_are_in_no_order():
    one, other = np.array([1.0, np.nan]), np.array([np.nan, 1.0])
    assert compare_values({"a": one, "b": other}, np.arange(2)) == [{"first": "a", "second": "b", "n": 0}]
