"""Read and write JSON and CSV files, and compute checksums."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mri.base.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def write_json(content: Any, path: Path) -> None:
    """Write JSON, floats with six significant digits. Raises ValueError for NaN and infinity, which hide faults."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(content, path.name), indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError when the file is missing or isn't JSON."""
    try:
        return parse_json(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `dvc repro` first") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}") from None


def parse_json(text: str, name: str) -> Any:
    """Parse JSON; errors call it `name`. Raises UserError when it isn't JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{name} is not valid JSON: {error}") from None


def write_csv(frame: pd.DataFrame, path: Path, digits: int = 6) -> None:
    """Write a table without its row numbers, floats with `digits` significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format=f"%.{digits}g")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file of any size, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _rounded(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item, where) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}")
        return float(f"{value:.6g}")
    return value
