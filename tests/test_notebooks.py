"""The example notebooks run, and what is stored of them is what their cells show today."""

import base64
import io
import re

import nbformat
import numpy as np
import pytest
from notebooks import EXAMPLES, NOTEBOOKS, run
from PIL import Image

NUMBER = re.compile(r"\d+(\.\d+)?(e-\d+)?")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_stored_with_what_its_cells_show(file, monkeypatch):
    """But for numbers, such as seconds. ``make notebooks`` stores it anew."""
    monkeypatch.chdir(EXAMPLES)
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    kinds = []
    for cell, outputs in run(notebook):
        assert [each.output_type for each in cell.outputs] == [each.output_type for each in outputs], cell.source
        for stored, shown in zip(cell.outputs, outputs, strict=True):
            if shown.output_type == "stream":
                assert NUMBER.sub("#", stored.text) == NUMBER.sub("#", shown.text)
                continue
            ((kind, content),) = shown.data.items()
            kinds.append(kind)
            assert list(stored.data) == [kind], cell.source
            if kind == "image/jpeg":
                assert_alike(stored.data[kind], content)
            else:
                assert NUMBER.sub("#", stored.data[kind]) == NUMBER.sub("#", content)
    assert "image/jpeg" in kinds


def assert_alike(stored: str, shown: str) -> None:
    """That most pixels are the same; another processor's rounding may move a few to other segments."""
    pictures = [base64.b64decode(content) for content in (stored, shown)]
    assert len(pictures[0]) <= 100_000
    first, second = (np.asarray(Image.open(io.BytesIO(picture)), dtype=float) for picture in pictures)
    assert first.shape == second.shape
    assert (np.abs(first - second) < 16).mean() > 0.8
