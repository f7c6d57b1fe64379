"""The fuzzers, briefly: they find a planted defect, and none in the real service."""

import numpy as np
import pytest

from benchmarks.local_service import served
from mri.data import images
from tests import fuzz


@pytest.mark.parametrize("kind", fuzz.CORPUS)
def test_every_sound_file_passes_and_so_does_its_first_half(kind):
    fuzz.check_reading(fuzz.CORPUS[kind])
    fuzz.check_reading(fuzz.CORPUS[kind][: len(fuzz.CORPUS[kind]) // 2])


def test_the_reader_stands_a_short_bombardment():
    assert fuzz.fuzz_reader(2, first_seed=1) > 0


def unreadable(error: Exception):
    def read(data, name):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (unreadable(ZeroDivisionError("a fault")), "a fault"),
        (unreadable(images.ImageError("image: two\nlines")), "two"),
        (lambda data, name: np.zeros((32, 32)), "float64"),
    ],
)
def test_a_reader_that_fails_is_found(monkeypatch, read, message):
    monkeypatch.setattr(images, "read", read)
    with pytest.raises((ZeroDivisionError, AssertionError), match=message):
        fuzz.fuzz_reader(30, first_seed=1)


@pytest.mark.slow
def test_the_running_service_answers_as_its_schema_says(package, tmp_path):
    with served(tmp_path, 1, package=package) as service:
        done = fuzz.fuzz_api(service, seconds=20, number=1)
    assert done.returncode == 0, done.stdout
    assert "Operations:       5 selected" in done.stdout
