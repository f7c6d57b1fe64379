import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri.evaluation.screening import net_benefit, operating_point, screen


def table(tumour_scores, free_scores, source="here") -> pd.DataFrame:
    """One image a group, of each class by its probability of a tumour."""
    scores = np.array([*tumour_scores, *free_scores])
    labels = ["glioma"] * len(tumour_scores) + ["notumor"] * len(free_scores)
    frame = pd.DataFrame({"label": labels, "source": source, "group": range(len(scores))})
    return frame.assign(p_glioma=scores, p_notumor=1 - scores)


def test_the_operating_point_is_the_highest_threshold_that_flags_enough_tumours():
    scores, tumour = np.array([0.9, 0.8, 0.7, 0.2, 0.95]), np.array([True, True, True, True, False])
    assert operating_point(scores, tumour, 0.75) == 0.7
    assert operating_point(scores, tumour, 0.99) == 0.2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_operating_point_keeps_its_promise_on_the_images_that_it_was_chosen_on(scores, target):
    values = np.array(scores)
    threshold = operating_point(values, np.ones(len(values), bool), target)
    assert (values >= threshold).mean() >= target and threshold in values
    assert (values > threshold).mean() < target or (values > threshold).sum() == 0


def test_test_images_are_scored_at_the_threshold_of_the_validation_images():
    val = table([0.6, 0.9, 0.95], [0.1, 0.2])
    test = pd.concat([table([0.7, 0.5], [0.65, 0.1, 0.2]), table([0.55, 0.8], [0.3], source="there")])
    scores = screen(val, test.assign(group=range(len(test))))
    assert scores["threshold"] == pytest.approx(0.6)
    assert scores["sensitivity"]["value"] == 0.5 and scores["specificity"]["value"] == 0.75
    assert scores["auc"]["value"] == pytest.approx(14 / 16)
    missed = {name: (row["n"], row["missed"]["value"]) for name, row in scores["missed_by_source"].items()}
    assert missed == {"here": (2, 0.5), "there": (2, 0.5)}


def test_images_of_one_kind_only_are_not_screened():
    both = table([0.9], [0.1])
    assert screen(both, table([0.9, 0.8], [])) == {} and screen(table([], [0.1]), both) == {}
    assert screen(both.drop(columns="p_notumor"), both.drop(columns="p_notumor")) == {}


def test_net_benefit_has_its_known_values():
    """Of ten images, four are flagged, three with a tumour: at 20 % a needless follow-up costs a quarter of a find."""
    scores = np.array([0.9, 0.8, 0.7, 0.6, *[0.05] * 6])
    tumour = np.array([True, True, True, False, True, *[False] * 5])
    assert net_benefit(scores, tumour, np.array([0.2])) == pytest.approx([0.3 - 0.1 * 0.25])
    assert net_benefit(np.ones(10), tumour, np.array([0.5])) == pytest.approx([0.4 - 0.6])
    assert net_benefit(tumour.astype(float), tumour) == pytest.approx(np.full(99, 0.4))
