"""The choice of a number format, from faked timings."""

import pytest
import torch

from mri.networks import models
from mri.training import precision

CPU = torch.device("cpu")


@pytest.fixture
def dtype_for(monkeypatch, params, small_spec):
    """Return the dtype chosen for (fp32, bf16) seconds per turn; the first turn warms up."""

    def choose(turns):
        times = iter([seconds for turn in turns for seconds in turn])
        monkeypatch.setattr(precision, "_seconds", lambda *_: next(times))
        settings = params.train.model_copy(update={"precision": "auto"})
        return precision.choose_dtype(models.build(small_spec, 4, 0), settings, CPU)

    return choose


def test_the_quicker_format_is_chosen_and_fp32_unless_bf16_wins_by_a_tenth(dtype_for):
    assert dtype_for([(1, 1)] + 7 * [(1, 0.89)]) == torch.bfloat16
    assert dtype_for([(1, 1)] + 7 * [(1, 0.91)]) == torch.float32


def test_the_turn_that_warms_up_does_not_count(dtype_for):
    assert dtype_for([(1, 100)] + 4 * [(1, 0.5)] + 3 * [(1, 1)]) == torch.bfloat16


def test_a_busy_moment_does_not_decide(dtype_for):
    """Between turns times differ ninetyfold; what is quicker within most turns is chosen."""
    assert dtype_for([(1, 1), (1, 9), (1, 9), (1, 9), *4 * [(20, 10)]]) == torch.bfloat16
    assert dtype_for([(1, 1), (90, 2), (90, 2), (90, 2), *4 * [(1, 2)]]) == torch.float32


@pytest.mark.parametrize(("asked", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_what_is_asked_for_is_not_measured(monkeypatch, params, small_spec, asked, dtype):
    monkeypatch.delattr(precision, "_seconds")
    settings = params.train.model_copy(update={"precision": asked})
    assert precision.choose_dtype(models.build(small_spec, 4, 0), settings, CPU) == dtype


@pytest.mark.parametrize(("device", "images"), [("cpu", 8), ("meta", 32)])
def test_a_cpu_is_timed_with_few_images_and_an_accelerator_with_a_batch(
    monkeypatch, params, small_spec, device, images
):
    seen = []
    monkeypatch.setattr(precision, "_seconds", lambda model, batch, dtype: seen.append(len(batch)) or 1.0)
    settings = params.train.model_copy(update={"precision": "auto"})
    precision.choose_dtype(models.build(small_spec, 4, 0), settings, torch.device(device))
    assert set(seen) == {images}


def test_measuring_leaves_the_network_as_it_was(params, small_spec):
    model = models.build(small_spec, 4, 0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = params.train.model_copy(update={"precision": "auto"})
    assert precision.choose_dtype(model, settings, CPU) in (torch.float32, torch.bfloat16)
    assert not model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
