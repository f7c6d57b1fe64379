"""Every setting of the service: environment variables, read once at start and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mri.base.errors import UserError


@dataclass(frozen=True)
class Settings:
    """workers: processes that answer. api_key, monitoring_key: "" lets everyone in. origins: websites whose pages may
    read answers (CORS).

    max_bytes: of a request's body. seconds: for one request, its upload included. queue: requests that a worker has
    taken in and not yet answered, at most. explaining: of them, explained at a time by more than Grad-CAM, which costs
    next to nothing; as many may wait. monitoring_url: of the store, for SQLAlchemy. days: how long it keeps a row.
    rollup_seconds: between two roll-ups to MLflow; 0 for none.
    """

    workers: int = 1
    api_key: str = ""
    monitoring_key: str = ""
    origins: tuple[str, ...] = ()
    max_bytes: int = 20_000_000
    seconds: float = 30
    queue: int = 64
    explaining: int = 2
    monitoring_url: str = "sqlite:///monitoring.db"
    days: float = 90
    rollup_seconds: float = 300

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings of an environment. Raises UserError that names the variable at fault."""
        number = _Numbers(environment)
        return cls(
            workers=round(number("MRI_WORKERS", cls.workers, least=1)),
            api_key=environment.get("MRI_API_KEY", ""),
            monitoring_key=environment.get("MRI_MONITORING_KEY", ""),
            origins=tuple(environment.get("MRI_ALLOWED_ORIGINS", "").replace(",", " ").split()),
            max_bytes=round(1e6 * number("MRI_MAX_MEGABYTES", cls.max_bytes / 1e6, least=0.001)),
            seconds=number("MRI_TIMEOUT_SECONDS", cls.seconds, least=0.1),
            queue=round(number("MRI_QUEUE", cls.queue, least=1)),
            explaining=round(number("MRI_EXPLANATIONS", cls.explaining, least=1)),
            monitoring_url=_store_url(environment.get("MRI_MONITORING_URL") or cls.monitoring_url),
            days=number("MRI_MONITORING_DAYS", cls.days, least=0.001),
            rollup_seconds=number("MRI_ROLLUP_SECONDS", cls.rollup_seconds, least=0),
        )


class _Numbers:
    """Reads numbers out of an environment."""

    def __init__(self, environment: Mapping[str, str]):
        self._environment = environment

    def __call__(self, name: str, default: float, least: float) -> float:
        text = self._environment.get(name) or str(default)
        try:
            value = float(text)
        except ValueError:
            raise UserError(f"${name} must be a number, not {text!r}") from None
        if not least <= value < float("inf"):
            raise UserError(f"${name} must be at least {least}, not {text}")
        return value


def _store_url(text: str) -> str:
    """The store's URL with an absolute path, so that every process of the service finds the same file."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(text)
        url.get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError, AttributeError) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"$MRI_MONITORING_URL is no URL of a database that can be used here ({line})") from None
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise UserError("$MRI_MONITORING_URL must name a file: workers share it")
        url = url.set(database=str(Path(url.database).absolute()))
    return url.render_as_string(hide_password=False)
