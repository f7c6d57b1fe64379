import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from mri.inference.gradcam import Cells, gradcam_from_features, upsample


def test_map_is_the_weighted_sum_of_features_without_its_negative_part():
    features = np.array([[[[1.0, 2.0]], [[3.0, 1.0]]]] * 2)  # N 2, K 2, one row of two cells
    weights = np.array([[1.0, 0.0], [1.0, -1.0], [-1.0, 1.0]])
    maps = gradcam_from_features(features, weights, np.array([1, 2]))
    # class 1: 1 - 3, 2 - 1; class 2: the opposite; each cell has half of the pooled logit
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(maps, [[[0, 0.5]], [[1, 0]]])


def test_cells_add_up_to_the_logit_where_all_contributions_are_positive():
    rng = np.random.default_rng(0)
    features, weights = rng.random((3, 5, 4, 6)), rng.random((2, 5))
    target = np.array([0, 1, 1])
    logits = (features.mean(axis=(2, 3)) @ weights.T)[np.arange(3), target]
    np.testing.assert_allclose(gradcam_from_features(features, weights, target).sum(axis=(1, 2)), logits, rtol=1e-6)


@pytest.mark.parametrize(("grid", "size"), [((7, 7), (224, 224)), ((2, 3), (9, 5)), ((1, 1), (4, 4)), ((6, 6), (4, 3))])
def test_upsampling_is_torchs_bilinear_one(grid, size):
    maps = np.random.default_rng(0).random((2, *grid), dtype=np.float32)
    expected = F.interpolate(torch.from_numpy(maps)[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(upsample(maps, size), expected.numpy(), atol=1e-6)


@given(
    hnp.arrays(np.float64, st.tuples(st.just(1), *[st.integers(1, 8)] * 2), elements=st.floats(-9, 9)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_upsampling_never_leaves_the_range_of_the_map(maps, size):
    large = upsample(maps, size)
    assert large.shape == (1, *size)
    assert large.min() >= maps.min() - 1e-9
    assert large.max() <= maps.max() + 1e-9


def test_cells_are_drawn_where_they_are_said_to_be():
    maps = upsample(np.array([[[0.0, 1.0]]]), (1, 6), Cells(first=1, step=2))
    np.testing.assert_array_equal(maps, [[[0, 0, 0.5, 1, 1, 1]]])


def test_explaining_from_features_needs_no_torch():
    code = "import sys, mri.inference.gradcam; print(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
