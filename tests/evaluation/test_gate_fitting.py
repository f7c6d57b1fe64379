import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.decomposition import PCA

from mri.base.errors import UserError
from mri.base.intervals import resample_weights, wilson
from mri.data.images import prepare
from mri.data.phantom import geometry, lesions, rendering
from mri.evaluation import gate_fitting
from mri.evaluation.strange_images import FAR, make_strange
from mri.inference.gate import Gate, pool
from mri.networks import models, predict, weights
from tests.conftest import architecture

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=30).map(lambda values: np.array(values, float))


def features(n: int, seed: int, size: int = 40) -> np.ndarray:
    """Return pooled features of similar images: a few strong directions about a common mean; float32 (n, size)."""
    random = np.random.default_rng(seed)
    axes = np.random.default_rng(99).normal(size=(5, size))
    varied = random.normal(size=(n, 5)) @ axes + 0.3 * random.normal(size=(n, size))
    return (10 + varied).astype(np.float32)


def once(values: np.ndarray) -> np.ndarray:
    return np.ones((1, len(values)))


GATE = gate_fitting.fit_gate(features(400, 0), features(200, 1), axes=8)


def test_pool_gives_mean_and_deviation_over_positions():
    maps = np.zeros((2, 3, 2, 2), np.float32)
    maps[0, 1] = [[1, 1], [3, 3]]
    pooled = pool(maps)
    assert (pooled.dtype, pooled.shape) == (np.float32, (2, 6))
    assert pooled[0].tolist() == [0, 2, 0, 0, 1, 0]


def test_score_is_the_distance_under_the_covariance_of_axes_and_rest():
    axes = GATE.axes.astype(float)
    covariance = axes.T @ np.diag(GATE.variances - GATE.rest) @ axes + GATE.rest * np.eye(40)
    new = features(20, 2)
    apart = new / np.linalg.norm(new.astype(float), axis=1, keepdims=True) - GATE.mean
    expected = (apart @ np.linalg.inv(covariance) * apart).sum(1)
    np.testing.assert_allclose(GATE.score(new), expected, rtol=1e-2)  # the axes have half precision


def test_score_of_the_training_images_is_their_number_of_features_on_average():
    train = features(400, 0)
    assert GATE.score(train).mean() == pytest.approx(40 * 399 / 400, rel=2e-3)


def test_scores_rank_images_as_the_likelihood_of_probabilistic_pca_does():
    train, new = features(400, 0), features(100, 2)
    both = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (train, new)]
    likelihood = PCA(8, svd_solver="full").fit(both[0]).score_samples(both[1])
    assert np.corrcoef(GATE.score(new), -likelihood)[0, 1] > 0.999


@given(st.floats(0.01, 100))
def test_the_length_of_the_features_does_not_count(factor):
    new = features(10, 3)
    np.testing.assert_allclose(GATE.score(new * np.float32(factor)), GATE.score(new), rtol=1e-4)


def test_the_gate_passes_its_share_of_validation_images_and_no_more():
    val = features(200, 1)
    assert GATE.passes(val).mean() == 0.95
    assert gate_fitting.fit_gate(features(400, 0), val, true_positive_rate=0.99).passes(val).mean() == 0.99


def test_the_gate_passes_new_images_of_its_kind_and_stops_others():
    assert GATE.passes(features(1000, 5)).mean() == pytest.approx(0.95, abs=0.03)
    strange = np.random.default_rng(0).uniform(0, 20, (200, 40)).astype(np.float32)
    assert not GATE.passes(strange).any()
    assert not GATE.passes(np.zeros((1, 40), np.float32)).any()


def test_few_images_make_few_axes():
    few = gate_fitting.fit_gate(features(10, 0), features(10, 1))
    assert few.axes.shape == (5, 40)


def test_features_that_are_dead_on_the_training_images_do_no_harm_until_they_wake():
    dead = np.zeros((200, 40), np.float32)
    dead[:, :4] = features(200, 0, 4)
    gate = gate_fitting.fit_gate(dead[:150], dead[150:], axes=8)
    assert gate.passes(dead[150:]).mean() >= 0.95
    awake = dead[:20].copy()
    awake[:, 20] = 1
    assert not gate.passes(awake).any()


def test_an_image_scores_the_same_to_the_last_digit_whatever_is_scored_with_it():
    features = np.random.default_rng(0).normal(size=(40, 96)).astype(np.float32)
    gate = gate_fitting.fit_gate(features[:30], features[30:], axes=8)
    assert gate.score(features).tolist() == [gate.score(one[None])[0] for one in features]
    assert gate.score(features[:0]).shape == (0,)


def test_a_loaded_gate_is_the_saved_one(tmp_path):
    path = tmp_path / "folder" / "gate.safetensors"
    GATE.save(path)
    loaded = Gate.load(path)
    assert loaded.threshold == GATE.threshold
    np.testing.assert_array_equal(loaded.score(features(20, 2)), GATE.score(features(20, 2)))


def test_the_file_of_the_largest_network_is_smaller_than_a_megabyte(tmp_path):
    large = np.random.default_rng(0).normal(size=(200, 4096)).astype(np.float32)
    gate = gate_fitting.fit_gate(large, large[:50])
    assert gate.axes.shape == (64, 4096)
    gate.save(tmp_path / "gate.safetensors")
    assert (tmp_path / "gate.safetensors").stat().st_size < 600_000


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gate\.safetensors does not exist"):
        Gate.load(tmp_path / "gate.safetensors")
    (tmp_path / "gate.safetensors").write_bytes(b"no gate at all")
    with pytest.raises(UserError, match=r"gate\.safetensors is damaged"):
        Gate.load(tmp_path / "gate.safetensors")


def test_threshold_is_the_least_score_that_passes_the_share():
    assert gate_fitting.gate_threshold(np.arange(20.0), 0.95) == 18
    assert gate_fitting.gate_threshold(np.arange(19.0), 0.95) == 18
    assert gate_fitting.gate_threshold(np.arange(20.0), 1.0) == 19


@given(SCORES, SCORES)
def test_auroc_counts_pairs_and_ties_as_half(inside, outside):
    expected = np.mean([(o > i) + (o == i) / 2 for i in inside for o in outside])
    assert gate_fitting.auroc(inside, outside, once(inside), once(outside))[0] == pytest.approx(expected)
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    assert expected == pytest.approx(metrics.roc_auc_score(truth, np.concatenate([inside, outside])))


def test_false_positive_rate_is_the_share_within_the_threshold():
    inside, outside = np.arange(1.0, 101), np.array([50, 95, 96, 200.0])
    assert gate_fitting.false_positive_rate(inside, outside, once(inside), once(outside))[0] == 0.5
    assert gate_fitting.false_positive_rate(inside, outside, once(inside), once(outside), 0.5)[0] == 0.25
    assert gate_fitting.false_positive_rate(inside, outside, once(inside), once(outside), 0.96)[0] == 0.75


@given(SCORES, SCORES, st.integers(0, 20))
def test_a_weight_counts_as_so_many_equal_images(inside, outside, seed):
    drawn = [resample_weights(np.arange(len(values)), 3, seed) for values in (inside, outside)]
    for score in (gate_fitting.auroc, gate_fitting.false_positive_rate):
        repeated = []
        for first, second in zip(*drawn, strict=True):
            many = np.repeat(inside, first.astype(int)), np.repeat(outside, second.astype(int))
            repeated.append(score(*many, once(many[0]), once(many[1]))[0])
        np.testing.assert_allclose(score(inside, outside, *drawn), repeated)


def test_the_threshold_and_the_false_positive_rate_agree():
    inside, outside = np.random.default_rng(0).normal(size=(2, 300))
    rate = gate_fitting.false_positive_rate(inside, outside, once(inside), once(outside))[0]
    assert rate == (outside <= gate_fitting.gate_threshold(inside, 0.95)).mean()


def test_summary_separates_the_strange_from_the_alike():
    random = np.random.default_rng(0)
    inside, far, alike = random.normal(0, 1, 200), random.normal(9, 1, 100), random.normal(0, 1, 100)
    groups, others = np.arange(200) // 2, np.arange(1000, 1100)
    perfect = gate_fitting.detection_scores(inside, far, groups, others, resamples=300)
    assert perfect == {"auroc": wilson(100, 100), "fpr_at_95_tpr": wilson(0, 100)}
    chance = gate_fitting.detection_scores(inside, alike, groups, others, resamples=300)
    assert chance["auroc"]["low"] < 0.5 < chance["auroc"]["high"]
    assert chance["fpr_at_95_tpr"]["low"] < 0.95 < chance["fpr_at_95_tpr"]["high"]


def test_images_made_from_a_group_are_drawn_with_it_and_others_by_themselves():
    inside, outside = gate_fitting.drawn_together(
        np.array(list("aab")), np.array(["b", "x 0", "a", "b", "x 1"]), 200, seed=0
    )
    np.testing.assert_array_equal(outside[:, [2, 0, 3]], inside[:, [0, 2, 2]])
    np.testing.assert_array_equal(inside[:, 0] + inside[:, 2], 2)  # two groups are drawn,
    np.testing.assert_array_equal(outside[:, 1] + outside[:, 4], 2)  # and two of the images that come from none
    assert abs(np.corrcoef(inside[:, 0], outside[:, 1])[0, 1]) < 0.2


def test_genuine_images_are_drawn_alike_whatever_they_are_compared_with():
    groups = np.arange(30) // 3
    draws = [gate_fitting.drawn_together(groups, others, 50, seed=1)[0] for others in (groups[:7], np.arange(100, 105))]
    np.testing.assert_array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], resample_weights(groups, 50, 1))


def test_more_variants_of_the_same_images_do_not_make_an_interval_narrower():
    inside, outside = np.random.default_rng(0).normal(size=(2, 60))
    groups = np.arange(60) // 6
    once, often = (
        gate_fitting.detection_scores(inside, np.tile(outside + 1, n), groups, np.tile(groups, n), resamples=300)
        for n in (1, 7)
    )
    for score in ("auroc", "fpr_at_95_tpr"):
        assert often[score] == pytest.approx(once[score]) and once[score]["low"] < once[score]["high"]


def test_a_strange_image_is_compared_with_those_that_were_drawn_with_it():
    """Group b scores 10 more than a, each strange image 1 more than its source: 1, where one group is drawn twice."""
    inside, outside, groups = np.array([0.0, 10]), np.array([1.0, 11]), np.array(["a", "b"])
    scores = gate_fitting.detection_scores(inside, outside, groups, groups, resamples=300)
    assert scores["auroc"] == {"value": 0.75, "low": 0.75, "high": 1.0}
    alone = gate_fitting.detection_scores(inside, outside, groups, np.array(["x 0", "x 1"]), resamples=300)
    assert alone["auroc"] == {"value": 0.75, "low": 0.0, "high": 1.0}


@pytest.mark.filterwarnings("error")
def test_resamples_without_a_strange_image_are_left_out():
    scores = gate_fitting.detection_scores(
        np.array([0.0, 10]), np.array([5.0]), np.array(["a", "b"]), np.array(["a"]), resamples=300
    )
    assert scores["auroc"] == {"value": 0.5, "low": 0.5, "high": 1.0}
    assert scores["fpr_at_95_tpr"] == {"value": 1.0, "low": 0.0, "high": 1.0}


@pytest.mark.slow
def test_with_imagenet_features_the_gate_stops_what_is_no_slice_at_all():
    model = models.build(architecture("b0", "efficientnet_b0", "features", "features.5"), 4, seed=0)
    weights.initialise(model, "lite")

    def pooled(pixels: np.ndarray) -> np.ndarray:
        with predict.torch.inference_mode():
            return pool(model.eval().features(predict.to_tensor(pixels)).numpy())

    recipe = rendering.Recipe(2, 96, (13.0, 21.0), 1.0)
    slices = [
        prepare(image, 64)
        for number in range(30)
        for kind in lesions.CLASSES
        for image in rendering.render(recipe, kind, geometry.PLANES[number % 3], 0, number).images
    ]
    train, val, test = np.split(np.stack(slices), [144, 192])  # whole patients
    gate = gate_fitting.fit_gate(pooled(train), pooled(val))
    inside = gate.score(pooled(test))
    for kind in FAR:
        outside = gate.score(pooled(make_strange(kind, test[:24], 0)))
        groups, others = np.arange(len(test)) // 2, np.arange(1000, 1024)
        assert gate_fitting.detection_scores(inside, outside, groups, others, resamples=100)["auroc"]["value"] > 0.98, (
            kind
        )
