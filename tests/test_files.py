import pytest

from mri.files import read_json, write_json


def test_floats_keep_six_significant_digits_and_counts_all(tmp_path):
    write_json({"a": 0.123456789, "b": [1e-9 / 3], "n": 1234567}, tmp_path / "new/metrics.json")
    assert read_json(tmp_path / "new/metrics.json") == {"a": 0.123457, "b": [3.33333e-10], "n": 1234567}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_hide_faults_are_refused(value, tmp_path):
    with pytest.raises(ValueError, match=r"metrics.json: a: b is (nan|inf)"):
        write_json({"a": {"b": value}}, tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()
