import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from mri.base.cli import guarded, positive, run_stage
from mri.base.errors import UserError
from tests.conftest import file_size_limit
from tests.workspace import THUMBNAIL, environment, make


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    def action():
        raise UserError("data/ is empty: put class folders there")

    with pytest.raises(SystemExit) as stopped:
        guarded(action)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: data/ is empty: put class folders there\n"


def test_an_interruption_is_one_line_and_exit_code_130():
    program = (
        "import time\nfrom mri.base.cli import guarded\nguarded(lambda: (print('up', flush=True), time.sleep(60)))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        # Whoever runs the tests in the background has Ctrl-C ignored, which children inherit.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stderr.read() == "interrupted; what is finished is kept\n"


def test_a_programming_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("action", "line"),
    [
        (
            lambda: torch.empty(1 << 50),
            "error: memory is exhausted (.*DefaultCPUAllocator.*); what is finished is kept",
        ),
        (lambda: np.empty(1 << 50), "error: memory is exhausted (Unable to allocate .*); what is finished is kept"),
        (lambda: _write_beyond_the_limit(), "error: the disk is full (.*File too large.*); what is finished is kept"),
    ],
)
def test_a_machine_that_runs_out_of_something_is_one_line_and_exit_code_2(capsys, action, line):
    with pytest.raises(SystemExit) as stopped:
        guarded(action)
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and re.match(line.replace("(", r"\(").replace(")", r"\)"), printed)


def _write_beyond_the_limit():
    """Write a model where files are limited to a megabyte, as if the disk were full."""
    with tempfile.TemporaryDirectory() as folder, file_size_limit(2**20):
        safetensors.torch.save_file({"weights": torch.zeros(2**20)}, f"{folder}/model.safetensors")


ROOT = Path(__file__).parents[2]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


PROGRAMS = sorted(
    module_name(path)
    for folder in ("mri", "stages", "service", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path.name == "__main__.py" or '__name__ == "__main__"' in path.read_text()
)


def started(module: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **{"cwd": ROOT, **options})


def test_all_programs_are_found():
    assert {"mri.commands.predict", "stages.train", "service.monitoring", "benchmarks.audit"} <= set(PROGRAMS)
    assert len(PROGRAMS) > 20


@pytest.mark.slow
@pytest.mark.parametrize("module", PROGRAMS)
def test_every_program_explains_itself_with_an_example(module):
    done = started(module, "--help")
    assert done.returncode == 0, done.stderr
    usage, explained = done.stdout.split("\n\n", 1)
    assert usage.startswith(f"usage: python -m {module}")
    assert len(explained) > 60 and f"python -m {module}" in explained


@pytest.mark.slow
@pytest.mark.parametrize("module", ["mri.commands.predict", "mri.commands.folds", "stages.train", "benchmarks.audit"])
def test_a_wrong_option_is_one_line_and_exit_code_2(module):
    done = started(module, *(["x"] * 3 if module == "mri.commands.folds" else []), "--nonsense")
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*\(python -m [\w.]+ --help explains it\)\n", done.stderr)


@pytest.mark.slow
def test_ctrl_c_stops_a_stage_with_one_line_and_exit_code_130(tmp_path):
    folder = make(tmp_path, [*THUMBNAIL, "data.options.patients=399"])
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.download"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder),
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("artifacts/dataset/**/*.png")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read().splitlines()[-1] == "interrupted; what is finished is kept"


def test_a_stage_outside_a_repository_says_where_to_run(root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stages.download"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert (done.returncode, done.stderr) == (
        2,
        "error: params.yaml not found: run from the top of the repository\n",
    )


def test_every_program_has_the_same_command_line():
    """So that one test of a wrong option stands for all."""
    for name in PROGRAMS:
        path = ROOT / name.replace(".", "/")
        text = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert "Parser(" in text or "cli.run_stage(" in text or "parse_arguments(" in text, name
        assert "argparse.ArgumentParser" not in text


def test_a_file_that_another_stage_makes_is_asked_for_in_one_line(root, tmp_path, monkeypatch, capsys):
    def drift(params):
        (tmp_path / "artifacts").mkdir(exist_ok=True)
        Path("artifacts/drift/reference").read_bytes()

    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run_stage(drift, [])
    assert stopped.value.code == 2
    message = "error: artifacts/drift/reference does not exist: run `dvc repro`, which makes it first\n"
    assert capsys.readouterr().err == message


def test_a_missing_file_that_no_stage_makes_keeps_its_traceback(root, monkeypatch):
    def drift(params):
        Path("/nowhere/at/all").read_bytes()

    monkeypatch.chdir(root)
    with pytest.raises(FileNotFoundError):
        run_stage(drift, [])


@pytest.mark.parametrize(("kind", "text", "number"), [(int, "3", 3), (float, "0.5", 0.5)])
def test_a_number_above_0_is_taken(kind, text, number):
    assert positive(kind)(text) == number


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (int, "0", "must be a whole number above 0, got 0"),
        (int, "1.5", "must be a whole number above 0, got 1.5"),
        (float, "-1", "must be a number above 0, got -1"),
        (float, "nan", "must be a number above 0, got nan"),
        (float, "inf", "must be a number above 0, got inf"),
    ],
)
def test_a_number_that_is_not_above_0_is_refused(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        positive(kind)(text)
    assert str(error.value) == message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "option"),
    [
        ("leakage", "--seeds"),
        ("load", "--seconds"),
        ("training", "--repeats"),
        ("audit", "--repeats"),
        ("serving", "--rounds"),
    ],
)
def test_a_benchmark_of_nothing_is_refused(module, option):
    done = started(f"benchmarks.{module}", option, "0")
    assert done.returncode == 2
    assert re.fullmatch(rf"error: argument {option}: must be .*above 0, got 0 \(.*--help explains it\)\n", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["select", "drift", "package"])
def test_a_stage_before_its_turn_says_what_is_missing(root, tmp_path, stage):
    shutil.copy(root / "params.yaml", tmp_path)
    done = started(f"stages.{stage}", cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)})
    assert done.returncode == 2
    assert re.fullmatch(r"error: metrics/\S+\.json does not exist: run `dvc repro` first\n", done.stderr)
