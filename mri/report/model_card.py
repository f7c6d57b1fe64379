"""The winner's model card: what it is, for whom it isn't, what was measured of it, and what wasn't.

Its sections are those of Mitchell et al., "Model Cards for Model Reporting" (2019); what the CLAIM checklist (2024
update) asks of a study of medical imaging stands in the same places, and its last section says where. Everything that a
run decides is read from that run's metrics and parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mistune

from mri.base.params import Params
from mri.report import rendering
from mri.report.findings import findings
from mri.report.metrics import collect
from mri.report.tables import weakest_class

MARKDOWN, PAGE = "model_card.md", "model_card.html"

# Where each source's classes come from: the reference standard, as far as the source tells.
REFERENCE_STANDARD = {
    "phantom": "The class is the tumour that was drawn, and the mask is where it was drawn: both are exact.",
    "kaggle": "The source's class folders. It doesn't say how, by whom or from what a diagnosis was made.",
    "figshare": "The diagnosis and the tumour's outline as published with the slices.",
    "brisc": "Classes and masks as published with the slices.",
    "local": "The folder that an image was put into. How a diagnosis was made is for whoever put it there to say.",
}
CONFLICTS = {
    "keep": "keep their own label",
    "reference": "take the reference set's",
    "drop": "are left out",
}


def write(params: Params, metrics: Path, out: Path) -> None:
    """Write out/model_card.md and the same as a page, out/model_card.html. metrics: the run's folder of that name."""
    text = markdown(params, collect(metrics))
    (out / MARKDOWN).write_text(text, encoding="utf-8")
    (out / PAGE).write_text(html(text), encoding="utf-8")


def markdown(params: Params, content: dict[str, Any]) -> str:
    """The card. content: see `mri.report.metrics.collect`."""
    winner = content["summary"]["winner"]
    evaluation = content["evaluate"].get(winner)
    facts = {
        "params": params.model_dump(mode="json"),
        "synthetic": params.data.source == "phantom",
        "name": winner,
        "evaluation": evaluation,
        "weakest": weakest_class(evaluation) if evaluation else None,
        "confusions": confusions(evaluation["test"]["confusion"], params.data.classes) if evaluation else [],
        "findings": findings(content["summary"], content["explain"], content["consensus"]),
        "reference_standard": REFERENCE_STANDARD.get(params.data.source, "As the source gives it."),
        "conflicts": CONFLICTS[params.audit.conflicts],
    }
    return rendering.render(content | facts, MARKDOWN)


def confusions(counts: list[list[int]], classes: list[str], most: int = 3) -> list[dict[str, Any]]:
    """The commonest mistakes, at most `most`: {true, called, count, of} with `of` images of the true class."""
    found: list[dict[str, Any]] = [
        {"true": classes[i], "called": classes[j], "count": count, "of": sum(row)}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda mistake: -mistake["count"])[:most]


def html(text: str) -> str:
    """The card as a page that loads nothing from anywhere."""
    body = mistune.create_markdown(plugins=["table"])(text)
    return rendering.render({"title": text.split("\n")[0].lstrip("# "), "content": body}, PAGE)
