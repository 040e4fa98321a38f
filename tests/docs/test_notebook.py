"""The notebook of the documentation runs, and the site shows it with its outputs."""

import json
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from docs.notebook import notebook_markdown

NOTEBOOK = Path(__file__).parents[2] / "docs" / "pages" / "how-to" / "notebook.ipynb"


@pytest.mark.timeout(600)
def test_it_runs_and_shows_what_it_holds(tmp_path: Path) -> None:
    read: Any = nbformat.read  # its types are not stated
    held, run = (read(NOTEBOOK, as_version=4) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter, about its transport
        NotebookClient(
            run, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    assert list(map(kinds, run.cells)) == list(map(kinds, held.cells))
    assert "'ridge': 0.0" in "".join(text(cell) for cell in run.cells), "ridge forgets nothing"


def kinds(cell: Any) -> list[list[str]]:
    """Return the kinds of a cell's outputs, without what libraries print."""
    outputs = [output for output in cell.get("outputs", []) if output["output_type"] != "stream"]
    return [sorted(output["data"]) for output in outputs]


def text(cell: Any) -> str:
    return "".join(output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", []))


def test_the_page_has_text_code_and_outputs(tmp_path: Path) -> None:
    page = notebook_markdown(NOTEBOOK)
    assert page.startswith("# A notebook")
    assert "```python\nimport numpy as np" in page
    assert "after segment</th>" in page
    assert not [block for block in page.split("\n\n") if block.startswith("<tr")], "HTML is one block"
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(cell["outputs"] for cell in cells[3:] if cell["cell_type"] == "code"), "it was run"
