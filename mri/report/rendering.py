"""Render the templates in mri/report/templates: self-contained pages, and Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from mri.report.tables import best_classifier, contamination, interval, missed, weakest_class

TEMPLATES = Path(__file__).parent / "templates"


def render(content: dict[str, Any], template: str) -> str:
    """Fill a template. Raises jinja2.UndefinedError for a name that `content` lacks."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (percent, p_value, words, interval, missed, contamination, weakest_class, best_classifier)
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template(template).render(content)


def percent(share: float) -> str:
    """Format a share in per cent: 0.125 as "12.5 %"."""
    return f"{100 * share:.1f} %"


def p_value(value: float) -> str:
    """Format a p-value with three decimals."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def words(name: str) -> str:
    """Turn a name in the metrics into words: "grey_levels" into "grey levels"."""
    return name.replace("_", " ")
