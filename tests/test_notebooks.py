"""The example notebooks run: their cells in order, in IPython as a kernel would, each with names of its own."""

from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda file: file.stem)
def test_a_notebook_runs_and_is_kept_without_outputs(file, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    shell = InteractiveShell(user_ns={})
    shell.history_manager.enabled = False
    shown = []  # what each cell shows, in every format
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert not cell.outputs
        assert cell.execution_count is None
        result = shell.run_cell(cell.source)
        assert result.success, f"{cell.source}\n{result.error_in_exec or result.error_before_exec}"
        shown.append(shell.display_formatter.format(result.result)[0])
    assert any("text/html" in formats for formats in shown)  # results show themselves
