import time

import pytest

from benchmarks import scoring, serving, training
from mri.base.errors import UserError
from mri.data import dataset
from mri.inference.package import Package
from mri.networks import models
from tests import packages


def test_medians_and_ratios_compare_the_two_loops():
    runs = [{"images_per_s": speed, "precision": "bfloat16"} for speed in (3.0, 9.0, 4.0)]
    median = training.medians(runs)
    assert median == {"images_per_s": 4.0, "precision": "bfloat16", "images_per_s_of_each": [3.0, 9.0, 4.0]}
    both = {"small_32": {"ours": median, "usual": {"images_per_s": 2.0}}}
    assert training.ratios(both, "images_per_s") == {"small_32": 2.0}


@pytest.mark.slow
def test_both_loops_train_on_the_same_files_and_say_how_fast(tmp_path):
    training.write_images(64, tmp_path)
    assert len(dataset.read_index(tmp_path)) == 64
    assert training.run_one("decoded", "efficientnet_b0", 32, tmp_path)["decoding_seconds"] > 0
    by_loop = {loop: training.run_one(loop, "efficientnet_b0", 32, tmp_path) for loop in training.LOOPS}
    for figures in by_loop.values():
        assert figures["images_per_s"] > 0 and figures["peak_memory_mb"] > 100 and figures["cpu_per_wall"] > 0
    assert by_loop["ours"]["gemm_share"] > 0


def served(speeds, p50=10.0, p99=20.0, megabytes=100.0):
    """Return a server's figures as `serving.compare` does, given {method: {concurrency: requests/s}}."""
    cell = {"p50_ms": p50, "p99_ms": p99, "resident_mb": megabytes}
    rows = {method: {n: cell | {"requests_per_s": s} for n, s in by.items()} for method, by in speeds.items()}
    return {"ready_s": 2.0, **rows}


@pytest.fixture
def both():
    """Synthetic figures of both servers for one network."""
    runtime = {"model_call_ms": 8.0, "explain_cost": 1.1, "gemm_share": 0.5}
    usual = served({"predict": {"1": 10, "8": 20}, "gradcam": {"1": 2}, "maps": {"1": 1}}, p50=40.0)
    ours = served({"predict": {"1": 50, "8": 80}, "gradcam": {"1": 40}, "maps": {"1": 7}}, megabytes=300.0)
    ours["maps"]["1"]["resident_mb"] = 500.0
    return {"usual": usual, "ours": ours, "runtime": runtime}


def test_ratios_of_servers_are_the_least_of_all_concurrencies(both):
    assert serving.speedups(both)["predict"] == {"1": 5.0, "8": 4.0}
    expected = {"predict": 4.0, "gradcam": 20.0, "maps": 7.0, "explain_cost": 1.1, "p99_over_usual_p50": 0.5}
    assert serving.ratios(both) == expected


def test_the_report_names_the_model_call_s_share_and_what_the_winner_needs(both):
    report = serving.report({"resnet50": both}, "resnet50")
    assert report["model_call_share"] == {"resnet50": pytest.approx(0.64)}  # 8 ms of each 1/80 s
    assert report["gemm_share"] == {"resnet50": 0.5}
    expected = {"model": "resnet50", "ready_s": 2.0, "resident_mb": 300.0, "resident_mb_with_all_maps": 500.0}
    assert report["winner"] == expected
    assert not {"model_call_share", "winner"} & set(serving.report({"other": both}, "resnet50"))


def test_rounds_of_servers_are_summed_up_by_their_medians():
    rounds = [{"ready_s": t, "predict": {"1": {"p50_ms": 10 * t}}} for t in (1.0, 5.0, 2.0)]
    assert serving.medians(rounds) == {"ready_s": 2.0, "predict": {"1": {"p50_ms": 20.0}}}


def test_clients_figures_are_requests_per_second_and_percentiles():
    figures = serving.summary([0.01] * 98 + [0.5, 0.7], wall=4.0)
    assert figures == {
        "requests": 100,
        "requests_per_s": 25.0,
        "p50_ms": pytest.approx(10),
        "p99_ms": pytest.approx(502),
    }


def test_the_medians_of_an_answer_s_parts_are_of_every_part_that_it_names():
    parts = [{"network": 2.0, "draw": 8.0}, {"network": 4.0, "draw": 9.0}, {"network": 3.0, "draw": 1.0}]
    assert serving.part_medians(parts) == {"network_ms": 3.0, "draw_ms": 8.0}


def test_a_network_that_is_not_there_cannot_be_timed(tmp_path):
    packages.package(tmp_path / "package", ("winner",))
    package = Package(tmp_path / "package")
    with pytest.raises(UserError, match="holds no 'vgg': choose from winner"):
        serving.cases(package, tmp_path / "weights", ["vgg"])
    with pytest.raises(UserError, match="weights/winner does not exist: run `make repro`"):
        serving.cases(package, tmp_path / "weights", ["winner"])


@pytest.mark.slow
def test_both_servers_answer_the_same_requests_and_say_how_fast(tmp_path):
    (network,) = packages.package(tmp_path / "package", ("winner",)).values()
    models.save(network, packages.CLASSES, packages.SIZE, tmp_path / "weights/winner")
    (case,) = serving.cases(Package(tmp_path / "package"), tmp_path / "weights", ["winner"])
    figures = serving.compare(case, rounds=1, seconds=0.1)
    for server in serving.SERVERS:
        for method, concurrencies in serving.CONCURRENCIES.items():
            for n in concurrencies:
                row = figures[server][method][str(n)]
                assert row["requests"] >= n and 0 < row["p50_ms"] <= row["p99_ms"] and row["cpu_per_wall"] > 0
                assert 50 < row["proportional_mb"] < row["resident_mb"]
    assert figures["runtime"]["precision"] == "fp32" and figures["runtime"]["gemm_share"] > 0
    assert all(ratio > 0 for ratio in serving.ratios(figures).values())


def test_what_is_timed_tells_waiting_from_working():
    figures = scoring.timed(lambda: time.sleep(0.1))
    assert figures["seconds"] >= 0.1 and figures["cpu_per_wall"] < 0.5


def test_scoring_asks_for_every_networks_scores_and_maps(params, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        scoring, "explain_many", lambda model, images, target, methods: drawn.append((model.spec.name, images.shape))
    )
    scoring.score(params, images=260)
    scoring.explain(params, images=2, size=32)
    assert drawn == [(name, (2, 1, 32, 32)) for name in params.model.architectures]
