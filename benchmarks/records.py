"""Write what a benchmark measured, with the machine, the command and the day."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any

from mri.base import hardware
from mri.base.files import write_json


def write(module: str, content: dict[str, Any], out: Path) -> None:
    """Write a benchmark's figures to `out`. module: its name, for the command that repeats it."""
    about = {
        "hardware": hardware.describe(),
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        "date": date.today().isoformat(),
    }
    write_json(about | content, out)
