import pytest

from benchmarks import training
from mri import index


def test_medians_and_ratios_compare_the_two_loops():
    runs = [{"images_per_s": speed, "precision": "bfloat16"} for speed in (3.0, 9.0, 4.0)]
    median = training.medians(runs)
    assert median == {"images_per_s": 4.0, "precision": "bfloat16", "images_per_s_of_each": [3.0, 9.0, 4.0]}
    both = {"small_32": {"ours": median, "usual": {"images_per_s": 2.0}}}
    assert training.ratios(both, "images_per_s") == {"small_32": 2.0}


@pytest.mark.slow
def test_both_loops_train_on_the_same_files_and_say_how_fast(tmp_path):
    training.write_images(64, tmp_path)
    assert len(index.read(tmp_path)) == 64
    found = {loop: training.run_one(loop, "efficientnet_b0", 32, tmp_path) for loop in training.LOOPS}
    for figures in found.values():
        assert figures["images_per_s"] > 0 and figures["peak_memory_mb"] > 100 and figures["cpu_per_wall"] > 0
    assert 0 < found["ours"]["gemm_share"] < 1
