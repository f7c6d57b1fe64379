"""torchvision's networks, without PyTorch's compiler, which its detection operators import.

That is 1.5 of the 5 CPU-seconds that a stage takes to start, for one check that no classifier ever reaches. Import
torchvision from here, or an import elsewhere comes first.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

COMPILER = ("torch._dynamo", "torch._dynamo.utils")


def _import_torchvision() -> ModuleType:
    """Import torchvision with a stand-in for the compiler, which is gone afterwards: who needs it gets the real one."""
    if any(name in sys.modules for name in ("torchvision", *COMPILER)):
        return importlib.import_module("torchvision")
    package, utils = (ModuleType(name) for name in COMPILER)
    package.__path__ = []
    utils.is_compile_supported = lambda device: False  # type: ignore[attr-defined]
    sys.modules |= {COMPILER[0]: package, COMPILER[1]: utils}
    try:
        return importlib.import_module("torchvision")
    finally:
        for name in COMPILER:
            del sys.modules[name]


torchvision = _import_torchvision()
