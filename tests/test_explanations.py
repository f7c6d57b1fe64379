from collections import Counter

import pytest

from mri.explanations import for_sheet

LABELS = ["glioma"] * 20 + ["meningioma"] * 2 + ["pituitary"] * 10


@pytest.mark.parametrize(
    ("count", "each"),
    [(3, [1, 1, 1]), (6, [2, 2, 2]), (8, [3, 2, 3]), (99, [20, 2, 10])],
)
def test_a_sheet_shows_as_many_of_each_class_as_there_can_be(count, each):
    shown = [LABELS[i] for i in for_sheet(LABELS, count, 0)]
    assert shown == sorted(shown)
    assert [Counter(shown)[name] for name in ("glioma", "meningioma", "pituitary")] == each


def test_which_images_a_sheet_shows_hangs_on_the_seed_alone():
    first, again, other = (for_sheet(LABELS, 6, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert len({*first}) == 6
