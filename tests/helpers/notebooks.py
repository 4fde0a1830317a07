"""The example notebooks, run in IPython as a kernel would; ``make notebooks`` stores what their cells show."""

import base64
import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from nbformat import NotebookNode
from nbformat.v4 import new_output

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
SHOWN = ("image/jpeg", "text/html", "text/plain")
"""The formats of results, the first of which is stored: HTML with pictures is no use where it is not trusted."""


class Results(DisplayHook):
    """Keeps a cell's result in every format, and prints nothing."""

    formats: dict[str, Any]

    def write_output_prompt(self) -> None:
        """Write no prompt."""

    def write_format_data(self, format_dict: dict[str, Any], _md_dict: Any = None) -> None:
        """Keep the formats."""
        self.formats = format_dict

    def finish_displayhook(self) -> None:
        """Write no line break."""


def run(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, list[NotebookNode]]]:
    """Run the cells of code in order, and yield each with what it shows."""
    shell = InteractiveShell(user_ns={}, displayhook_class=Results)
    shell.history_manager.enabled = False
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        shell.displayhook.formats, printed = {}, io.StringIO()
        with redirect_stdout(printed):
            result = shell.run_cell(cell.source)
        assert result.success, f"{cell.source}\n{result.error_in_exec or result.error_before_exec}"
        outputs = [new_output("stream", name="stdout", text=printed.getvalue())] if printed.getvalue() else []
        if formats := shell.displayhook.formats:
            kind = next(kind for kind in SHOWN if kind in formats)
            shown = formats[kind] if kind.startswith("text") else base64.b64encode(formats[kind]).decode()
            outputs.append(new_output("execute_result", data={kind: shown}, execution_count=number))
        yield cell, outputs


def store(file: Path) -> None:
    """Run a notebook and write it with what its cells show."""
    notebook = nbformat.read(file, as_version=4)
    for number, (cell, outputs) in enumerate(run(notebook), start=1):
        cell.outputs, cell.execution_count = outputs, number
    nbformat.write(notebook, file)


if __name__ == "__main__":
    os.chdir(EXAMPLES)
    for file in NOTEBOOKS:
        store(file)
