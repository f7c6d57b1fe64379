import pytest

from mri.base.errors import UserError
from mri.base.files import read_json, write_json


def test_floats_keep_six_significant_digits_and_counts_all(tmp_path):
    write_json({"a": 0.123456789, "b": [1e-9 / 3], "n": 1234567}, tmp_path / "new/metrics.json")
    assert read_json(tmp_path / "new/metrics.json") == {"a": 0.123457, "b": [3.33333e-10], "n": 1234567}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_hide_faults_are_refused(value, tmp_path):
    with pytest.raises(ValueError, match=r"metrics.json: a: b is (nan|inf)"):
        write_json({"a": {"b": value}}, tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "does not exist: run `dvc repro` first"),
        (b'<<<<<<< HEAD\n{"a": 1}', "is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"\xff", "is not UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_metrics_that_cannot_be_read_are_said_in_one_line(content, problem, tmp_path):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_json(path)
    assert str(error.value) == f"{path} {problem}"
