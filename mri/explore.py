"""Run notebooks/exploratory.ipynb on the dataset that params.yaml selects and save it as a page: python -m mri.explore

The page is one HTML file that loads nothing from a network. The notebook itself is not changed.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from mri import exploration
from mri.cli import guarded

NOTEBOOK = Path("notebooks/exploratory.ipynb")
PAGE = Path("notebooks/page.html.j2")
OUT = Path("artifacts/explore/exploratory.html")


def execute(notebook: NotebookNode) -> None:
    """Run every cell in the working folder and keep what they show. Raises CellExecutionError where one fails."""
    here = {"metadata": {"path": str(Path.cwd())}}
    NotebookClient(notebook, timeout=None, resources=here).execute(transport_encryption="auto")


def render(notebook: NotebookNode, template: Path = PAGE) -> str:
    """An executed notebook as a page of its own; a picture is described by the heading that it stands under."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)):
            heading = found[-1]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata["alt"] = heading
    exporter = HTMLExporter(
        template_file=str(template.resolve()), exclude_anchor_links=True, exclude_output_prompt=True
    )
    return exporter.from_notebook_node(notebook)[0]


def main() -> None:
    exploration.load()  # says in one line what is missing, before a kernel is started
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    execute(notebook)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(render(notebook), encoding="utf-8")
    print(f"wrote {OUT}")


if __name__ == "__main__":
    guarded(main)
