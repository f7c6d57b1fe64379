import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mri.inference.gradcam import Cells, gradcam_from_features, upsample
from mri.training.looking import class_evidence, look_loss, tumour_in_cells


def outline(side: int, rows: slice, columns: slice) -> torch.Tensor:
    mask = torch.zeros(1, 1, side, side)
    mask[..., rows, columns] = 1
    return mask


def test_a_cell_holds_the_tumour_of_the_pixels_it_is_drawn_on():
    """Two cells a side, centred on pixels 0 and 4: a cell is drawn with less and less weight to the other's centre."""
    shares = tumour_in_cells(outline(5, slice(0, 5), slice(0, 2)), (2, 2), Cells(0, 4))
    inside = (1 + 0.75) / (1 + 0.75 + 0.5 + 0.25)
    assert shares[0].numpy() == pytest.approx(np.array([[inside, 0.1], [inside, 0.1]]))


@given(st.integers(0, 2**31), st.sampled_from([Cells(0, 4), Cells(1.5, 4), Cells(0, 5)]))
def test_shares_of_cells_are_those_of_the_drawn_map(seed, cells):
    random = np.random.default_rng(seed)
    grid, mask = random.random((1, 4, 4)), random.random((1, 16, 16)) < 0.3
    drawn = upsample(grid, (16, 16), cells)
    weights = upsample(np.ones((1, 4, 4)), (16, 16), cells)
    assert np.allclose(weights, 1)
    every_cell = np.eye(16).reshape(16, 4, 4)
    pixels = upsample(every_cell, (16, 16), cells).sum((1, 2)).reshape(4, 4)
    shares = tumour_in_cells(torch.from_numpy(mask[:, None].astype(float)), (4, 4), cells)[0].numpy()
    assert (grid[0] * pixels * shares).sum() == pytest.approx((drawn * mask).sum())


def test_evidence_is_gradcam_before_its_rectifier():
    random = torch.Generator().manual_seed(0)
    features, weights = torch.randn(3, 5, 2, 2, generator=random), torch.randn(4, 5, generator=random)
    classes = torch.tensor([3, 0, 1])
    evidence = class_evidence(features, weights, classes)
    expected = gradcam_from_features(features.numpy(), weights.numpy(), classes.numpy()) * 4
    assert np.allclose(evidence.clamp_min(0), expected, atol=1e-6)
    assert (evidence < 0).any()


def test_the_loss_is_the_log_of_the_mass_in_the_tumours_cells():
    tumour = torch.tensor([[[1.0, 0.3], [0.2, 0.0]]])  # the cell with 0.2 holds less than a quarter of the fullest
    evidence = torch.tensor([[[2.0, 1.0], [3.0, -5.0]]])
    assert look_loss(evidence, tumour).item() == pytest.approx(np.log(2), abs=1e-5)
    assert look_loss(evidence * torch.tensor([[1.0, 1.0], [0.0, 0.0]]), tumour).item() == pytest.approx(0, abs=1e-5)


def test_images_without_an_outline_ask_nothing_and_maps_without_evidence_give_no_nan():
    evidence = torch.tensor([[[2.0, 1.0]], [[-1.0, -1.0]]], requires_grad=True)
    loss = look_loss(evidence, torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(evidence.grad).all()
    assert not evidence.grad[0].any()


def test_the_loss_raises_evidence_inside_and_lowers_it_outside():
    evidence = torch.ones(1, 2, 2, requires_grad=True)
    look_loss(evidence, torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])).backward()
    assert evidence.grad[0, 0, 0] < 0 and (evidence.grad[0].flatten()[1:] > 0).all()
