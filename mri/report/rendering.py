"""Pages from the templates in mri/report/templates: each is one file that loads nothing from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from mri.report.tables import interval, missed

TEMPLATES = Path(__file__).parent / "templates"


def render(content: dict[str, Any], template: str) -> str:
    """Fill a template. Raises jinja2.UndefinedError for what it names and `content` lacks."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"percent": percent, "interval": interval, "missed": missed, "p_value": p_value, "words": words}
    environment.filters |= filters
    return environment.get_template(template).render(content)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def words(name: str) -> str:
    return name.replace("_", " ")
