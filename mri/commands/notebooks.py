"""Run notebooks on the pipeline's results, and save each as a page: artifacts/notebooks/NAME.html

    python -m mri.commands.notebooks exploratory            # needs `dvc repro split`; `make explore` does both
    python -m mri.commands.notebooks training explainable   # need `dvc repro`; `make notebooks` does it and runs all
    three

A page is one HTML file that loads nothing from a network. The notebooks themselves are not changed.
"""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from mri.base.cli import Parser, guarded

FOLDER, OUT = Path("notebooks"), Path("artifacts/notebooks")
PAGE = FOLDER / "page.html.j2"
# Each raises UserError when a notebook's input is missing, before a kernel starts; by name, since PyTorch loads slowly.
CHECKS = {
    "exploratory": "mri.report.exploration:load",
    "training": "mri.report.metrics:load",
    "explainable": "mri.report.gallery:check",
}


def execute(notebook: NotebookNode) -> None:
    """Run every cell in the working folder and keep its output. Raises CellExecutionError where one fails."""
    here = {"metadata": {"path": str(Path.cwd())}}
    NotebookClient(notebook, timeout=None, resources=here).execute(transport_encryption="auto")


def render(notebook: NotebookNode, template: Path = PAGE) -> str:
    """Return an executed notebook as an HTML page; the alternative text of a picture is the heading above it."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (headings := re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)):
            heading = headings[-1]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata["alt"] = heading
    exporter = HTMLExporter(
        template_file=str(template.resolve()), exclude_anchor_links=True, exclude_output_prompt=True
    )
    return exporter.from_notebook_node(notebook)[0]


def save(name: str) -> Path:
    """Run notebooks/NAME.ipynb, write its page and return the path. Raises UserError when its input is missing."""
    resolve_name(CHECKS[name])()
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    execute(notebook)
    page = OUT / f"{name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(notebook), encoding="utf-8")
    return page


def main() -> None:
    parser = Parser("mri.commands.notebooks", __doc__)
    parser.add_argument("names", nargs="+", choices=CHECKS, metavar="NAME", help=", ".join(CHECKS))
    for name in parser.parse_args().names:
        print(f"wrote {save(name)}", flush=True)


if __name__ == "__main__":
    guarded(main)
