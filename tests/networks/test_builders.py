import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import sys
{first}
from mri.networks.builders import torchvision
torchvision.models.resnet18()
print("torch._dynamo" in sys.modules)
import torch._dynamo
print(torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)).item())
print(torchvision.ops.nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]]), torch.tensor([0.5, 0.9]), 0.5).tolist())
"""


@pytest.mark.parametrize(("first", "loaded"), [("", "False"), ("import torch._dynamo", "True")])
def test_networks_are_built_without_the_compiler_which_works_for_who_needs_it(first, loaded):
    command = [sys.executable, "-c", PROGRAM.format(first=first)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == [loaded, "1.0", "[1]"]
