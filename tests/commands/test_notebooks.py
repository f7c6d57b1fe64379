"""The notebooks: kept without outputs, run on phantoms, saved as pages that need no network.

Those that show a whole run are run in tests/pipeline/test_pipeline.py, which has one.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mri.commands.notebooks import CHECKS, FOLDER, OUT, PAGE, render
from tests.workspace import ROOT, THUMBNAIL, make, run

LOADED_FROM_A_NETWORK = re.compile(r"""(?:src|href)=["']?(?:https?:)?//|url\(["']?(?:https?:)?//|@import|<script""")


def described(page: str) -> list[str]:
    """Return the alternative text of each picture of a page; all pictures must be embedded."""
    tags = re.findall(r"<img[^>]*>", page)
    assert all('src="data:image/png;base64,' in tag for tag in tags)
    return [text for tag in tags for text in re.findall(r'alt="([^"]+)"', tag)]


def test_a_page_needs_no_network_and_describes_its_pictures():
    output = new_output("display_data", {"image/png": "aGk="})
    cells = [new_markdown_cell("# One\n\n## Two & three"), new_code_cell("show()", outputs=[output])]
    notebook = new_notebook(cells=cells, metadata={"title": "A title"})
    page = render(notebook, ROOT / PAGE)
    assert described(page) == ["Two &amp; three"]
    assert "<title>A title</title>" in page and "show" in page
    assert not LOADED_FROM_A_NETWORK.search(page)
    assert LOADED_FROM_A_NETWORK.search(HTMLExporter().from_notebook_node(notebook)[0])  # nbconvert's own page does


def test_every_notebook_is_known():
    assert sorted(path.stem for path in (ROOT / FOLDER).glob("*.ipynb")) == sorted(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_notebook_is_thin_and_kept_without_outputs(name):
    notebook = nbformat.read(ROOT / FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 7
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(cell.source.count("\n") < 10 for cell in code)
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE) for cell in code)


def saved(folder: Path, name: str) -> str:
    """The page that a notebook becomes in a folder where the pipeline, or enough of it, has run."""
    notebook = folder / FOLDER / f"{name}.ipynb"
    before = notebook.read_bytes()
    assert run(folder, "python", "-m", "mri.commands.notebooks", name).stdout == f"wrote {OUT / name}.html\n"
    assert notebook.read_bytes() == before
    page = (folder / OUT / f"{name}.html").read_text()
    assert not LOADED_FROM_A_NETWORK.search(page)
    assert not re.search(r"<div[^>]*vnd\.jupyter\.stderr|Traceback", page)
    assert len(described(page)) == page.count("<img")
    return page


def refusal(folder: Path, name: str) -> str:
    early = run(folder, "python", "-m", "mri.commands.notebooks", name, check=False)
    assert early.returncode == 2
    return early.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_exploratory_notebook_runs_on_phantoms_and_becomes_one_page(tmp_path):
    folder = make(tmp_path, THUMBNAIL)
    assert refusal(folder, "exploratory").startswith("error: artifacts/dataset/index.csv does not exist: run `dvc")
    for name in ("training", "explainable"):
        assert refusal(folder, name).startswith(
            "error: metrics/details/summary.json does not exist: run `dvc repro` first"
        )
    run(folder, "python", "-m", "stages.download")
    run(folder, "python", "-m", "stages.split")
    page = saved(folder, "exploratory")
    assert {"Of each class", "Tumour area by class"} <= set(described(page))
    assert "<td>phantom</td>" in page
