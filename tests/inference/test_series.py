import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri.inference.series import Pooling, fit_pooling, judge

CLASSES = ["glioma", "meningioma", "notumor"]
HEALTHY, TUMOUR = [0.05, 0.05, 0.9], [0.8, 0.1, 0.1]


def test_without_focus_and_sharpness_the_verdict_is_the_mean():
    verdict = judge(np.array([HEALTHY, TUMOUR]), CLASSES, Pooling())
    assert verdict.probabilities == pytest.approx([0.425, 0.075, 0.5]) and verdict.key == [0, 1]


def test_with_focus_slices_that_show_a_tumour_count_for_more():
    """By hand: weights 0.1 and 0.9."""
    verdict = judge(np.array([HEALTHY, TUMOUR]), CLASSES, Pooling(focus=1))
    assert verdict.probabilities == pytest.approx([0.725, 0.095, 0.18]) and verdict.key == [1, 0]


def test_with_sharpness_several_slices_are_surer_than_one():
    two = judge(np.array([TUMOUR, TUMOUR]), CLASSES, Pooling(sharpness=1 / np.log(2)))  # the square
    assert two.probabilities == pytest.approx(np.array([0.64, 0.01, 0.01]) / 0.66)


@given(
    st.lists(st.floats(0.001, 1), min_size=3, max_size=3),
    st.floats(0, 8),
    st.floats(0, 1),
)
def test_a_series_of_one_slice_gives_that_slice_s_answer(levels, focus, sharpness):
    one = np.array([levels]) / sum(levels)
    verdict = judge(one, CLASSES, Pooling(focus, sharpness))
    assert (verdict.probabilities == one[0]).all() and verdict.key == [0]


@given(st.integers(1, 6), st.floats(0, 8), st.floats(0, 1), st.integers(0, 99))
def test_verdicts_sum_to_one_and_do_not_depend_on_the_order_of_slices(count, focus, sharpness, seed):
    slices = np.random.default_rng(seed).dirichlet(np.ones(3), count)
    there, back = (judge(one, CLASSES, Pooling(focus, sharpness)) for one in (slices, slices[::-1]))
    assert there.probabilities.sum() == pytest.approx(1)
    assert there.probabilities == pytest.approx(back.probabilities)


def test_slices_count_alike_where_no_class_is_free_of_tumours():
    assert judge(np.array([[1, 0], [0, 1.0]]), ["glioma", "meningioma"], Pooling(8)).probabilities.tolist() == [0.5] * 2


def test_fitting_finds_that_few_slices_show_the_tumour_and_keeps_the_mean_where_nothing_is_gained():
    few = np.array([HEALTHY] * 3 + [TUMOUR])
    assert fit_pooling([few] * 4, [0] * 4, CLASSES).focus > 1
    assert fit_pooling([np.array([HEALTHY] * 2), np.array([TUMOUR] * 2)] * 2, [0, 2] * 2, CLASSES) == Pooling()
