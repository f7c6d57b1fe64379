import numpy as np
import pytest
from scipy import stats

from mri.base.errors import UserError
from mri.inference import drift
from mri.inference.drift import SIGNALS, Observations


def observations(
    n: int, seed: int = 0, brighter: float = 0.0, moved: float = 0.0, mix=(0.25, 0.25, 0.25, 0.25)
) -> Observations:
    """Return synthetic predictions; without arguments, all from one distribution."""
    rng = np.random.default_rng(seed)
    return Observations(
        rng.choice(4, n, p=mix),
        rng.beta(8, 2, n).astype(np.float32),
        (rng.standard_normal((n, 4)) + brighter).astype(np.float32),
        (rng.standard_normal((n, 16)) + moved).astype(np.float32),
    )


def fitted(n: int = 400, window: int = 50) -> drift.Reference:
    return drift.fit(
        observations(n), np.arange(n), np.eye(16, dtype=np.float32), {"model": "small"}, 0, window, splits=999
    )


def test_statistics_equal_those_of_scipy():
    window, rest = observations(30, 1, 0.3, 0.3, (0.4, 0.2, 0.2, 0.2)), observations(80, 2)
    signals = drift._signals(window + rest, (np.arange(110) < 30)[None])
    table = [np.bincount(part.labels, minlength=4) for part in (window, rest)]
    assert signals["classes"][0] == pytest.approx(stats.chi2_contingency(table, correction=False).statistic)
    rounded = [np.round(part.confidence, 1) for part in (window, rest)]  # with many ties
    contrast = np.where(np.arange(110) < 30, 1 / 30, -1 / 80)[None]
    assert drift._kolmogorov_smirnov(np.concatenate(rounded), contrast)[0] == pytest.approx(
        stats.ks_2samp(*rounded).statistic
    )
    columns = [stats.ks_2samp(window.statistics[:, i], rest.statistics[:, i]).statistic for i in range(4)]
    assert signals["image"][0] == pytest.approx(max(columns))
    one = [part.projection[:, 0].astype(float) for part in (window, rest)]
    expected = stats.energy_distance(*one) ** 2
    assert drift._energy_distance(np.concatenate(one)[:, None], contrast)[0] == pytest.approx(expected)


def test_unchanged_predictions_exceed_a_threshold_about_once_in_twenty_windows():
    reference = fitted()
    strengths = [reference.strengths(observations(50, seed)) for seed in range(1, 401)]
    for name in SIGNALS:
        assert np.mean([window[name] > 1 for window in strengths]) <= 0.1, name


@pytest.mark.parametrize(
    ("signal", "changed"),
    [
        ("classes", {"mix": (0.7, 0.1, 0.1, 0.1)}),
        ("image", {"brighter": 1.0}),
        ("features", {"moved": 0.5}),
    ],
)
def test_each_change_is_seen_by_its_own_signal_alone(signal, changed):
    strengths = fitted().strengths(observations(50, 9, **changed))
    assert strengths[signal] > 1
    assert all(strengths[name] <= 1 for name in SIGNALS if name != signal)


def test_less_confidence_is_seen():
    window = observations(50, 9)
    strengths = fitted().strengths(
        Observations(window.labels, window.confidence / 2, window.statistics, window.projection)
    )
    assert strengths["confidence"] > 1


def test_an_alarm_takes_the_same_signal_in_two_consecutive_windows():
    quiet = dict.fromkeys(SIGNALS, 0.5)
    strange, other = quiet | {"image": 1.5}, quiet | {"features": 1.5}
    assert drift.alarms([strange, quiet, strange, other, other, other]) == [[], [], [], [], ["features"], ["features"]]
    assert drift.alarms([strange]) == [[]] and drift.alarms([]) == []


def test_windows_consist_of_whole_groups_except_for_the_last_one():
    groups = np.repeat(np.arange(20), 5)
    for row in drift.random_windows(groups, 12, 50, 0):
        assert sorted(np.bincount(groups[row], minlength=20))[-3:] == [2, 5, 5] and row.sum() == 12


def test_thresholds_rise_where_images_come_in_groups_that_are_alike():
    n = 200
    groups = np.repeat(np.arange(40), 5)
    alike = np.random.default_rng(0).standard_normal((40, 16))[groups].astype(np.float32)
    grouped = Observations(observations(n).labels, observations(n).confidence, observations(n).statistics, alike)
    together = drift.fit(grouped, groups, np.eye(16), {}, splits=999)
    apart = drift.fit(grouped, np.arange(n), np.eye(16), {}, splits=999)
    assert together.thresholds["features"] > 1.5 * apart.thresholds["features"]


def test_a_window_of_another_size_is_refused():
    with pytest.raises(ValueError, match="has 50 predictions, not 49"):
        fitted().strengths(observations(49))


def test_the_window_is_at_most_a_quarter_of_the_reference():
    assert fitted(400, 0).window == 100
    assert drift.fit(observations(80), np.arange(80), np.eye(16), {}, splits=9).window == 20


def test_replays_of_the_reference_rarely_alarm():
    rates = drift.replay(observations(200), np.arange(200), seed=0, replays=60)
    assert rates["replays"] == 60 and set(rates["window"]) == {*SIGNALS, "any"}
    assert rates["window"]["any"] <= 0.3 and rates["alarm"] <= 0.05


def test_the_delay_of_a_large_change_is_two_windows_and_no_change_is_not_detected():
    reference = fitted()
    changed = drift.delay(reference, observations(150, 5, moved=2.0), np.arange(150), 0, streams=10, limit=5)
    assert (changed["detected"], changed["images"]) == (1.0, 100) and changed["signals"]["features"] == 1
    same = drift.delay(reference, observations(150, 5), np.arange(150), 0, streams=10, limit=5)
    assert same["detected"] <= 0.2 and same["images"] is None


def test_a_saved_reference_is_the_same_after_loading(tmp_path):
    reference, path = fitted(), tmp_path / "reference.safetensors"
    reference.save(path)
    loaded = drift.Reference.load(path)
    assert loaded.about == {"model": "small"} and loaded.window == 50 and loaded.thresholds == reference.thresholds
    assert loaded.strengths(observations(50, 3)) == reference.strengths(observations(50, 3))


def test_a_missing_or_damaged_reference_is_named(tmp_path):
    path = tmp_path / "reference.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        drift.Reference.load(path)
    fitted().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged"):
        drift.Reference.load(path)


def test_image_statistics_of_known_pictures():
    black, white = np.zeros((1, 8, 8), np.uint8), np.full((1, 8, 8), 255, np.uint8)
    board = (255 * (np.indices((8, 8)).sum(0) % 2)).astype(np.uint8)[None]
    statistics = drift.image_statistics(np.concatenate([black, white, board]))
    assert statistics[0].tolist() == pytest.approx([0, 0, 0, np.log(1e-8)])
    assert statistics[1].tolist() == pytest.approx([1, 0, 1, np.log(1e-8)])
    assert statistics[2].tolist() == pytest.approx([0.5, 0.5, 0.5, np.log(16)])  # the Laplacian is 4 or -4


def test_projections_depend_on_direction_and_not_on_length():
    features = np.random.default_rng(0).standard_normal((100, 64)).astype(np.float32)
    directions = drift.random_directions(features, 0)
    assert directions.shape == (64, 16) and np.array_equal(directions, drift.random_directions(features, 0))
    projected = drift.project(features, directions)
    assert np.allclose(projected.std(0), 1, atol=1e-5)
    assert np.allclose(drift.project(7 * features, directions), projected, atol=1e-4)
