"""The machine: a description of it for measurements, and how this process handles freed memory."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "torchvision", "openvino", "numpy")
CPU_EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt(3), glibc
NEVER = 2**31 - 1


def describe() -> dict[str, Any]:
    """Return the CPU's model, usable cores and relevant instruction sets, and the versions of Python and libraries."""
    return {
        "cpu": _cpu_field("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "extensions": " ".join(name for name in CPU_EXTENSIONS if name in (_cpu_field("flags") or "").split()),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _cpu_field(name: str) -> str:
    """Return a field of the first processor in /proc/cpuinfo; "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def keep_freed_memory() -> bool:
    """Keep freed memory for the next tensor, and return whether that is possible here (with glibc it is).

    glibc returns large blocks to the kernel as soon as they are freed, and the kernel hands them out again page by
    page, each filled with zeros. With tensors of tens of megabytes in every step this is up to a third of the training
    time. The cost is a peak 10 to 20 % higher, for gaps between tensors of different sizes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER))
