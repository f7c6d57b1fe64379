import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from mri.base.errors import UserError
from mri.base.intervals import estimate
from mri.data.images import prepare
from mri.data.phantom import geometry, lesions, rendering
from mri.evaluation import gate_fitting
from mri.evaluation.strange_images import FAR, make_families, make_strange
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


def shifted(n: int, seed: int, place: int) -> np.ndarray:
    """Return features of strange images: as genuine ones, but one feature is larger."""
    strange = features(n, seed)
    strange[:, place] += 20
    return strange


STRANGE = {"turned": shifted(200, 7, 0), "far": shifted(200, 8, 1)}
GATE = gate_fitting.fit_gate(features(400, 0), STRANGE, features(200, 1))


def test_pool_gives_mean_deviation_and_tilt_over_positions():
    maps = np.zeros((2, 3, 2, 2), np.float32)
    maps[0, 1] = [[1, 1], [3, 3]]
    pooled = pool(maps)
    assert (pooled.dtype, pooled.shape) == (np.float32, (2, 9))
    assert pooled[0].tolist() == [0, 2, 0, 0, 1, 0, 0, 0.25, 0]
    upside_down = pool(maps[:, :, ::-1])
    assert upside_down[0].tolist() == [0, 2, 0, 0, 1, 0, 0, -0.25, 0]


def test_a_single_family_is_scored_as_logistic_regression_does():
    genuine, strange = features(400, 0), STRANGE["far"]
    gate = gate_fitting.fit_gate(genuine, {"far": strange}, features(200, 1))
    scores = gate.score(np.concatenate([features(100, 2), shifted(100, 3, 1)]))
    assert metrics.roc_auc_score(np.repeat([0, 1], 100), scores) > 0.99
    assert (scores[:100] < 0).mean() > 0.95 and (scores[100:] > 0).mean() > 0.95


def test_the_score_is_the_log_odds_of_any_family():
    gate = Gate(np.array([[1, 0], [0, 2]], np.float32), np.array([0.5, -1.0]), 0.0)
    expected = np.log(np.exp(0.6 + 0.5) + np.exp(2 * 0.8 - 1))
    assert gate.score(np.array([[3, 4]], np.float32)) == pytest.approx([expected])


@given(st.floats(0.01, 100))
def test_the_length_of_the_features_does_not_count(factor):
    new = features(10, 3)
    np.testing.assert_allclose(GATE.score(new * np.float32(factor)), GATE.score(new), rtol=1e-4)


def test_the_gate_passes_its_share_of_validation_images_and_no_more():
    val = features(200, 1)
    assert GATE.passes(val).mean() == 0.95
    assert gate_fitting.fit_gate(features(400, 0), STRANGE, val, true_positive_rate=0.99).passes(val).mean() == 0.99


def test_the_gate_passes_new_images_of_its_kind_and_stops_every_family():
    assert GATE.passes(features(1000, 5)).mean() == pytest.approx(0.95, abs=0.03)
    for place in (0, 1):
        assert GATE.passes(shifted(200, 6, place)).mean() < 0.01


def test_features_that_are_dead_on_all_images_do_no_harm():
    dead = [np.pad(each, ((0, 0), (0, 8))) for each in (features(400, 0), *STRANGE.values(), features(200, 1))]
    gate = gate_fitting.fit_gate(dead[0], dict(zip(STRANGE, dead[1:3], strict=True)), dead[3])
    assert gate.passes(dead[3]).mean() == 0.95 and np.isfinite(gate.weights).all()


def test_a_gate_fails_where_it_lets_more_through_than_is_allowed():
    def let_through(share):
        return {"let_through": {"value": share}}

    good = {"far": {"all": let_through(0.01)}, "near": {"upside_down": let_through(0.1), "motion": let_through(0.3)}}
    assert gate_fitting.failures(good) == []
    bad = {"far": {"all": let_through(0.02)}, "near": {"upside_down": let_through(0.1), "motion": let_through(0.31)}}
    assert gate_fitting.failures(bad) == ["far", "motion"]


def test_an_image_scores_the_same_to_the_last_digit_whatever_is_scored_with_it():
    features = np.random.default_rng(0).normal(size=(40, 96)).astype(np.float32)
    gate = gate_fitting.fit_gate(features[:20], {"far": features[20:30], "turned": 2 * features[10:20]}, features[30:])
    assert gate.score(features).tolist() == [gate.score(one[None])[0] for one in features]
    assert gate.score(features[:0]).shape == (0,)


def test_a_loaded_gate_is_the_saved_one(tmp_path):
    path = tmp_path / "folder" / "gate.safetensors"
    GATE.save(path)
    loaded = Gate.load(path)
    assert loaded.threshold == GATE.threshold
    np.testing.assert_array_equal(loaded.score(features(20, 2)), GATE.score(features(20, 2)))


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


@given(SCORES, SCORES, st.integers(0, 20))
def test_a_weight_counts_as_so_many_equal_images(inside, outside, seed):
    random = np.random.default_rng(seed)
    drawn = [random.multinomial(len(v), np.full(len(v), 1 / len(v)), 3).astype(float) for v in (inside, outside)]
    repeated = []
    for first, second in zip(*drawn, strict=True):
        many = np.repeat(inside, first.astype(int)), np.repeat(outside, second.astype(int))
        repeated.append(gate_fitting.auroc(*many, once(many[0]), once(many[1]))[0])
    np.testing.assert_allclose(gate_fitting.auroc(inside, outside, *drawn), repeated)


def test_summary_separates_the_strange_from_the_alike():
    random = np.random.default_rng(0)
    inside, far, alike = random.normal(0, 1, 200), random.normal(9, 1, 100), random.normal(0, 1, 100)
    groups, others = np.arange(200) // 2, np.arange(1000, 1100)
    perfect = gate_fitting.detection_scores(4.0, inside, far, groups, others, resamples=300)
    assert perfect == {"auroc": estimate(1, np.ones(1), 100), "let_through": estimate(0, np.zeros(1), 100)}
    chance = gate_fitting.detection_scores(1.0, inside, alike, groups, others, resamples=300)
    assert chance["auroc"]["low"] < 0.5 < chance["auroc"]["high"]
    assert chance["let_through"]["low"] < 0.84 < chance["let_through"]["high"]


def test_more_variants_of_the_same_images_do_not_make_an_interval_narrower():
    inside, outside = np.random.default_rng(0).normal(size=(2, 60))
    groups = np.arange(60) // 6
    once, often = (
        gate_fitting.detection_scores(0.5, inside, np.tile(outside + 1, n), groups, np.tile(groups, n), resamples=300)
        for n in (1, 7)
    )
    for score in ("auroc", "let_through"):
        assert often[score] == pytest.approx(once[score]) and once[score]["low"] < once[score]["high"]


def test_a_strange_image_is_left_out_together_with_those_of_its_group():
    """Each of six groups scores 10 more than the one before, and its strange image 1 more than the group."""
    inside = 10 * np.arange(6.0)
    groups = np.arange(6)
    together = gate_fitting.detection_scores(25, inside, inside + 1, groups, groups)["auroc"]
    apart = gate_fitting.detection_scores(25, inside, inside + 1, groups, groups + 10)["auroc"]
    assert together["value"] == apart["value"] == pytest.approx(21 / 36)
    assert together["high"] - together["low"] < (apart["high"] - apart["low"]) / 3


@pytest.mark.filterwarnings("error")
def test_of_strange_images_of_one_group_nothing_is_known_of_others():
    scores = gate_fitting.detection_scores(
        5.0, np.array([0.0, 10]), np.array([5.0]), np.array(["a", "b"]), np.array(["a"]), resamples=300
    )
    assert scores["auroc"] == {"value": 0.5, "low": 0, "high": 1}
    assert scores["let_through"] == {"value": 1, "low": 0, "high": 1}


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
    strange = {family: pooled(images) for family, images in make_families(train, 0).items()}
    gate = gate_fitting.fit_gate(pooled(train), strange, pooled(val))
    assert gate.passes(pooled(test)).mean() > 0.8
    for kind in FAR:
        assert gate.passes(pooled(make_strange(kind, test[:24], 1))).mean() < 0.05, kind
