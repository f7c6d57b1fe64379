import os
import re
import subprocess
import sys

import pytest

from mri.base.errors import UserError
from service.settings import Settings


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MRI_")]:
        monkeypatch.delenv(name)


def test_settings_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("MRI_API_KEY", "k")
    monkeypatch.setenv("MRI_MAX_MEGABYTES", "2.5")
    monkeypatch.setenv("MRI_ALLOWED_ORIGINS", "https://a, https://b")
    monkeypatch.setenv("MRI_WORKERS", "")
    settings = Settings.read()
    assert settings.api_key == "k" and settings.max_bytes == 2_500_000 and settings.workers == 1
    assert settings.allowed_origins == ("https://a", "https://b")


def test_every_process_finds_the_same_store_wherever_it_was_started(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Settings.read().monitoring_url == f"sqlite:///{tmp_path / 'monitoring.db'}"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MRI_WORKERS", "1.5", "a whole number of at least 1"),
        ("MRI_QUEUE", "0", "a whole number of at least 1"),
        ("MRI_EXPLANATIONS", "-1", "a whole number of at least 1"),
        ("MRI_MAX_MEGABYTES", "many", "a number of at least 0.001"),
        ("MRI_TIMEOUT_SECONDS", "nan", "a number of at least 0.1"),
        ("MRI_MONITORING_DAYS", "inf", "a number of at least 0.001"),
        ("MRI_ROLLUP_SECONDS", "-1", "a number of at least 0"),
        ("MRI_MONITORING_URL", "nonsense", "a SQLAlchemy URL"),
        ("MRI_MONITORING_URL", "nosuch://host/name", "a SQLAlchemy URL"),
        ("MRI_MONITORING_URL", "sqlite://", "a SQLAlchemy URL"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name_its_value_and_what_is_allowed(monkeypatch, name, value, allowed):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        Settings.read()
    message = str(caught.value)
    assert message.startswith(f"${name} must be {allowed}") and f"not '{value}'" in message and "\n" not in message


def test_the_password_of_a_wrong_store_and_the_keys_are_never_shown(monkeypatch):
    monkeypatch.setenv("MRI_API_KEY", "secret")
    assert "secret" not in repr(Settings.read())
    monkeypatch.setenv("MRI_MONITORING_URL", "nosuch://user:" + "secret@host/name")
    with pytest.raises(UserError, match=re.escape("'nosuch://user:" + "***@host/name'")) as caught:
        Settings.read()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("module", ["service.service", "service.monitoring.__main__", "service.monitoring.store"])
def test_on_windows_the_service_names_wsl_in_one_line(module):
    program = f"import sys; sys.modules['fcntl'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the service needs Linux or macOS: on Windows, run it in WSL\n"


def test_a_wrong_setting_ends_the_service_with_exit_code_2(monkeypatch):
    monkeypatch.setenv("MRI_WORKERS", "1.5")
    done = subprocess.run([sys.executable, "-c", "import service.service"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: $MRI_WORKERS must be a whole number of at least 1, not '1.5'\n"
