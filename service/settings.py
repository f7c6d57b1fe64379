"""The service's settings: environment variables MRI_*, read once at start and checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from mri.base.errors import UserError
from mri.base.paths import SERVICE


def _split(text: object) -> object:
    """Return the words of a text, which commas or spaces separate; leave anything else to pydantic."""
    return tuple(text.replace(",", " ").split()) if isinstance(text, str) else text


def _store_url(text: str) -> str:
    """Return a database URL with an absolute path, so that every process of the service finds the same file."""
    try:
        url = make_url(text)
        url.get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError, AttributeError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ValueError("workers share the store, so it must be a file")
        url = url.set(database=str(Path(url.database).absolute()))
    return url.render_as_string(hide_password=False)


# The descriptions complete the sentence "$MRI_NAME must be ...".
Key = Annotated[str, Field(repr=False, description="text in UTF-8")]
Count = Annotated[int, Field(ge=1, description="a whole number of at least 1")]
Duration = Annotated[float, Field(ge=0.1, allow_inf_nan=False, description="a number of at least 0.1")]
Positive = Annotated[float, Field(ge=0.001, allow_inf_nan=False, description="a number of at least 0.001")]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number of at least 0")]
Origins = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split), Field(description="addresses separated by commas or spaces")
]
StoreUrl = Annotated[
    str, AfterValidator(_store_url), Field(description="a SQLAlchemy URL, such as sqlite:///monitoring.db")
]


class Settings(BaseSettings):
    """The settings. The variable MRI_NAME sets `name`; an empty one counts as unset."""

    model_config = SettingsConfigDict(env_prefix="MRI_", env_ignore_empty=True, frozen=True, validate_default=True)

    # The folder of the package that is served.
    service: Annotated[Path, Field(description="a folder")] = SERVICE
    # Processes that answer requests.
    workers: Count = 1
    # Without a key everybody may ask.
    api_key: Key = ""
    monitoring_key: Key = ""
    # Websites whose pages may ask (CORS).
    allowed_origins: Origins = ()
    # Of a request's body, 10^6 bytes.
    max_megabytes: Positive = 20
    # For one request, its upload included.
    timeout_seconds: Duration = 30
    # Requests in progress in one worker.
    queue: Count = 64
    # Images explained at a time in one worker; as many may wait. Grad-CAM alone costs nearly nothing and doesn't count.
    explanations: Count = 2
    monitoring_url: StoreUrl = "sqlite:///monitoring.db"
    # How long the monitoring store keeps a row.
    monitoring_days: Positive = 90
    # Between two roll-ups to MLflow; 0 for none.
    rollup_seconds: NotNegative = 300

    @property
    def max_bytes(self) -> int:
        """Return the size of the largest body, in bytes."""
        return round(1e6 * self.max_megabytes)

    @classmethod
    def read(cls) -> Settings:
        """Read the settings from the environment. Raises UserError that names the first variable at fault."""
        try:
            return cls()
        except ValidationError as error:
            problem = error.errors()[0]
        name = str(problem["loc"][0])
        message = f"$MRI_{name.upper()} must be {cls.model_fields[name].description}"
        if not name.endswith("_key"):
            message += f", not {_without_password(str(problem['input']))!r}"
        if problem["type"] == "value_error":  # raised by `_store_url`
            message += f" ({problem['ctx']['error']})"
        raise UserError(message)


def _without_password(text: str) -> str:
    """Return a text without the password of a URL that it may be."""
    return re.sub(r":[^:@/]*@", ":***@", text)
