from pathlib import Path

import pytest

from mri.base.paths import mending


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("artifacts/service/service.json", "run `dvc checkout --force`"),
        ("results/kaggle/package/service.json", "run `git restore results/kaggle/package/service.json`"),
        ("elsewhere/service.json", "copy the package again from where it was made"),
        ("../results/service.json", "copy the package again from where it was made"),
    ],
)
def test_a_damaged_file_comes_back_from_where_it_is_kept(path, advice):
    assert mending(Path(path)) == advice
