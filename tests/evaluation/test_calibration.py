import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri.evaluation.confidence import TEMPERATURES, fit_temperature
from mri.inference.runtime import softmax


def test_temperature_recovers_the_one_that_the_logits_were_divided_by():
    random = np.random.default_rng(0)
    logits = random.normal(size=(20000, 4)) * 2
    labels = np.array([random.choice(4, p=p) for p in softmax(logits)])
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.05)


@given(seed=st.integers(0, 50))
def test_temperature_never_changes_the_class(seed):
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(30, 4)), random.integers(0, 4, 30)
    temperature = fit_temperature(logits, labels)
    assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
    assert (softmax(logits, temperature).argmax(1) == logits.argmax(1)).all()
