import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from mri.base.files import write_json
from mri.base.intervals import wilson
from mri.evaluation.confidence import expected_calibration_error
from mri.evaluation.scores import area_under_roc, macro_f1, missed_tumours, summarise

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]


def some_predictions(n=200, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, n)
    probabilities = random.dirichlet(np.ones(4), n)
    probabilities[np.arange(n), labels] += 0.4
    return probabilities / probabilities.sum(1, keepdims=True), labels


def test_scores_equal_scikit_learn():
    probabilities, labels = some_predictions()
    scores = summarise(probabilities, labels, np.arange(200), CLASSES, resamples=100)
    called = probabilities.argmax(1)
    assert scores["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(labels, called))
    assert scores["balanced_accuracy"]["value"] == pytest.approx(metrics.balanced_accuracy_score(labels, called))
    assert scores["macro_f1"]["value"] == pytest.approx(metrics.f1_score(labels, called, average="macro"))
    assert scores["nll"] == pytest.approx(metrics.log_loss(labels, probabilities))
    assert scores["confusion"] == metrics.confusion_matrix(labels, called).tolist()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, called)
    for i, name in enumerate(CLASSES):
        per_class = scores["per_class"][name]
        assert per_class == pytest.approx(
            {
                "precision": precision[i],
                "recall": recall[i],
                "f1": f1[i],
                "auc": metrics.roc_auc_score(labels == i, probabilities[:, i]),
                "support": support[i],
            }
        )


def test_perfect_predictions_score_perfectly():
    labels = np.repeat(np.arange(4), 5)
    scores = summarise(np.eye(4)[labels], labels, np.arange(20), CLASSES, resamples=100)
    assert (scores["macro_f1"]["value"], scores["macro_f1"]["high"]) == (1.0, 1.0)
    assert (scores["missed_tumour_rate"], scores["nll"], scores["brier"], scores["ece"]) == (0, 0, 0, 0)


def test_scores_without_a_mistake_are_no_surer_than_their_groups_are_many():
    labels = np.repeat(np.arange(4), 10)  # two images of each of 20 groups; 15 of them are tumours'
    scores = summarise(np.eye(4)[labels], labels, np.arange(40) // 2, CLASSES, resamples=100)
    assert scores["accuracy"]["low"] == pytest.approx(wilson(20, 20)["low"])
    assert scores["intervals"]["missed_tumour_rate"] == pytest.approx([0, wilson(0, 15)["high"]])
    assert scores["intervals"]["per_class"]["glioma"]["recall"] == pytest.approx([wilson(5, 5)["low"], 1])


def test_uniform_probabilities_have_their_known_losses():
    labels = np.repeat(np.arange(4), 5)
    scores = summarise(np.full((20, 4), 0.25), labels, np.arange(20), CLASSES, resamples=100)
    assert scores["nll"] == pytest.approx(np.log(4))
    assert scores["brier"] == pytest.approx(0.75)


def test_missed_tumours_are_those_called_tumour_free():
    labels = np.array([0, 0, 1, 3, 2, 2])  # four tumours
    called = np.array([2, 0, 3, 3, 0, 2])  # one of them missed; one false alarm does not count
    scores = summarise(np.eye(4)[called], labels, np.arange(6), CLASSES, resamples=100)
    assert scores["missed_tumour_rate"] == 0.25
    low, high = scores["intervals"]["missed_tumour_rate"]
    assert missed_tumours(scores) == {"missed_tumour_rate": {"value": 0.25, "low": low, "high": high}} and low < high


def test_where_there_is_no_tumour_or_no_tumour_free_class_nothing_is_missed():
    free = np.array([2, 2])
    assert missed_tumours(summarise(np.eye(4)[free], free, np.arange(2), CLASSES, resamples=20)) == {}
    labels = np.array([0, 1])
    assert missed_tumours(summarise(np.eye(2)[labels], labels, np.arange(2), ["glioma", "meningioma"], 20)) == {}


def test_a_class_that_does_not_occur_is_left_out_and_calls_of_it_are_counted_as_mistakes(tmp_path):
    labels, called = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 3])
    scores = summarise(np.eye(4)[called], labels, np.arange(4), CLASSES, resamples=50)
    assert list(scores["per_class"]) == list(scores["intervals"]["per_class"]) == ["glioma", "meningioma"]
    assert [row["support"] for row in scores["per_class"].values()] == [2, 2]
    assert [row["recall"] for row in scores["per_class"].values()] == [1, 0.5]
    assert scores["balanced_accuracy"]["value"] == scores["accuracy"]["value"] == 0.75
    assert scores["confusion"][1] == [0, 1, 0, 1]
    write_json(scores, tmp_path / "scores.json")  # which refuses what isn't a number


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_every_score_of_whatever_classes_occur_is_a_number_inside_its_interval(labels, random):
    called = np.array([random.randrange(4) for _ in labels])
    scores = summarise(np.eye(4)[called], np.array(labels), np.arange(len(labels)), CLASSES, resamples=20)
    assert list(scores["per_class"]) == [CLASSES[i] for i in sorted(set(labels))]
    assert ("missed_tumour_rate" in scores) == (set(labels) != {2})
    assert all(("auc" in row) == (len(set(labels)) > 1) for row in scores["per_class"].values())
    intervals = dict(scores["intervals"])
    per_class = intervals.pop("per_class")
    for values, ends in [(scores, intervals), *((scores["per_class"][name], per_class[name]) for name in per_class)]:
        assert all(low <= values[score] <= high for score, (low, high) in ends.items())


def test_every_interval_holds_its_value():
    probabilities, labels = some_predictions()
    scores = summarise(probabilities, labels, np.arange(200) // 4, CLASSES, resamples=500)
    for name in ("nll", "brier", "ece", "missed_tumour_rate"):
        low, high = scores["intervals"][name]
        assert low <= scores[name] <= high and low < high


def test_a_class_that_does_not_occur_does_not_count():
    labels = np.array([0, 0, 1, 1])
    assert macro_f1(labels, labels, 4, np.ones((1, 4)))[0] == 1.0


def test_a_class_that_does_not_occur_and_is_called_counts_as_zero_in_macro_f1():
    labels, called = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    score = macro_f1(labels, called, 4, np.ones((1, 4)))[0]
    assert score == pytest.approx((1 + 2 / 3 + 0) / 3) == metrics.f1_score(labels, called, average="macro")


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=40))
def test_area_under_roc_counts_ties_as_half(pairs):
    scores = np.array([score for score, _ in pairs], float)
    positive = np.array([label for _, label in pairs])
    if positive.all() or not positive.any():
        return
    area = area_under_roc(scores, positive, np.ones((1, len(pairs))))[0]
    assert area == pytest.approx(metrics.roc_auc_score(positive, scores))


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    probabilities = np.tile([0.8, 0.2], (10, 1))
    labels = np.array([0] * 5 + [1] * 5)  # says 80 %, is right in half
    assert expected_calibration_error(probabilities, labels, np.ones((1, 10)), bins=1)[0] == pytest.approx(0.3)
