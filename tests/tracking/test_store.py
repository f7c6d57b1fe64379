import os

import pytest

from mri.base.errors import UserError
from mri.tracking import store


def test_dagshub_needs_its_repository_and_token_only(monkeypatch):
    monkeypatch.setenv("DAGSHUB_REPO", "someone/tumours")
    monkeypatch.setenv("DAGSHUB_USER_TOKEN", "t" * 8)
    assert store.tracking_uri() == "https://dagshub.com/someone/tumours.mlflow"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("someone", "t" * 8)


@pytest.mark.parametrize("repository", ["tumours", "/tumours", "a/b/c"])
def test_a_dagshub_repository_without_owner_is_refused(monkeypatch, repository):
    monkeypatch.setenv("DAGSHUB_REPO", repository)
    with pytest.raises(UserError, match="DAGSHUB_REPO must be owner/name"):
        store.tracking_uri()


def test_a_dagshub_repository_without_a_token_names_the_variable(monkeypatch):
    monkeypatch.setenv("DAGSHUB_REPO", "someone/tumours")
    with pytest.raises(UserError, match="DAGSHUB_USER_TOKEN"):
        store.tracking_uri()


def test_the_store_is_the_repositorys_also_in_dvcs_temporary_copy(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc/tmp/exps/tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert store.tracking_uri() == store.local_uri() == f"sqlite:///{tmp_path}/mlflow.db"
