"""Write the winner's model card: what it is, its intended use, what was measured and what wasn't.

The sections follow Mitchell et al., "Model Cards for Model Reporting" (2019). The items of the CLAIM checklist (2024
update) are answered in them, and the last section says where. All facts come from the run's metrics and parameters.
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

# The reference standard of each source, as far as the source describes it.
REFERENCE_STANDARD = {
    "phantom": "Class and mask are those of the tumour that was drawn: both are exact.",
    "kaggle": "The source's class folders. It doesn't say how, by whom or from what a diagnosis was made.",
    "figshare": "The diagnosis and the tumour's outline as published with the slices.",
    "brisc": "Classes and masks as published with the slices.",
    "local": "The folder that an image was put into; only whoever put it there knows how it was diagnosed.",
}
CONFLICTS = {
    "keep": "keep their own label",
    "reference": "take the reference set's",
    "drop": "are left out",
}


def write(params: Params, metrics: Path, out: Path) -> None:
    """Write out/model_card.md and the same as a page, out/model_card.html. metrics: the run's folder of metrics."""
    text = markdown(params, collect(metrics))
    (out / MARKDOWN).write_text(text, encoding="utf-8")
    (out / PAGE).write_text(html(text), encoding="utf-8")


def markdown(params: Params, content: dict[str, Any]) -> str:
    """Return the card. content: see `mri.report.metrics.collect`."""
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
        "reference_standard": REFERENCE_STANDARD.get(params.data.source, "As given by the source."),
        "conflicts": CONFLICTS[params.audit.conflicts],
    }
    return rendering.render(content | facts, MARKDOWN)


def confusions(counts: list[list[int]], classes: list[str], most: int = 3) -> list[dict[str, Any]]:
    """Return the `most` commonest mistakes: {true, called, count, of}, with `of` images of the true class."""
    mistakes: list[dict[str, Any]] = [
        {"true": classes[i], "called": classes[j], "count": count, "of": sum(row)}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(mistakes, key=lambda mistake: -mistake["count"])[:most]


def html(text: str) -> str:
    """Return the card as a self-contained page."""
    body = mistune.create_markdown(plugins=["table"])(text)
    return rendering.render({"title": text.split("\n")[0].lstrip("# "), "content": body}, PAGE)
