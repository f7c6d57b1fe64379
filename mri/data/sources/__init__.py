"""Sources of images: one module each, all with the same interface.

A source module defines

    class Options(pydantic.BaseModel)   the `options` in conf/data/<source>.yaml
    def fetch(options: Options, classes: list[str], out: Path, seed: int) -> Iterator[ImageRecord]

`fetch` puts image (and mask) files below `out` and yields one `mri.data.dataset.ImageRecord` per image. Its paths are
relative to `out`; a file that lies elsewhere is named by its absolute path, and `mri.data.download` copies it below
`out`. A mask is a PNG of its image's size, non-zero inside the tumour. Adding a source is one such module and one file
in conf/data/.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from mri.base.errors import UserError


def sources() -> list[str]:
    """Return the names of all sources: the modules of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(source: str) -> ModuleType:
    """Import the module of `source`. Raises UserError that lists the legal names."""
    if source not in sources():
        raise UserError(f"unknown data source {source!r}: choose one of {', '.join(sources())}")
    return importlib.import_module(f"{__name__}.{source}")
