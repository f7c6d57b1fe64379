import subprocess
import sys

import pytest

from mri.base.hardware import keep_freed_memory

FAULTS_OF_TEN_LARGE_TENSORS = """
import resource, sys
import torch
from mri.base.hardware import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(20):
    torch.ones(16 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_tensors_make_room_for_the_next_without_the_kernel(root):
    def faults(kind: str) -> int:
        run = [sys.executable, "-c", FAULTS_OF_TEN_LARGE_TENSORS, kind]
        return int(subprocess.run(run, cwd=root, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < faults("given back") / 100


def test_it_says_whether_the_system_can_be_told(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
