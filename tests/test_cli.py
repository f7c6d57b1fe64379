import os
import signal
import subprocess
import sys
import time

import pytest

from mri.cli import guarded
from mri.errors import UserError


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    def action():
        raise UserError("data/ is empty: put class folders there")

    with pytest.raises(SystemExit) as stopped:
        guarded(action)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: data/ is empty: put class folders there\n"


def test_an_interruption_is_one_line_and_exit_code_130():
    program = "import time\nfrom mri.cli import guarded\nguarded(lambda: (print('up', flush=True), time.sleep(60)))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stderr.read() == "interrupted; what is finished is kept\n"


def test_a_programming_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 / 0)


@pytest.mark.parametrize("stage", ["download", "train"])
def test_every_stage_explains_itself(stage, root):
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    assert f"python -m stages.{stage}" in done.stdout and "Write artifacts/" in done.stdout


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
