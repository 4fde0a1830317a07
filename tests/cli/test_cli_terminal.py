"""Output for one image on a terminal, and the shorter one in a pipe."""

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import genseg
from genseg.cli.segment_report import can_show, pictured
from genseg.display.palette import palette

TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


@contextmanager
def terminal(encoding: str = "utf-8", width: int = 80, **environment: str):
    """A console on a terminal that nobody reads."""
    main, side = pty.openpty()
    with open(side, "w", encoding=encoding) as file:  # noqa: PTH123
        yield Console(file=file, width=width, _environ=TERMINAL | environment)
    os.close(main)


@pytest.fixture(scope="module")
def found(segmented_folder) -> genseg.Segmentation:
    return genseg.Segmentation.load(segmented_folder[1] / "b.npz")


def test_a_picture_has_two_pixels_in_a_character_and_its_segments_beside_it(found):
    names = ("sky", "tree", "lake", "path")
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=60)
    console.print(pictured(replace(found, names=names), 50))
    text = console.file.getvalue()
    assert text.count("▄") == 24 * 8  # 96×64 pixels, where 50 columns leave 24 for the picture
    assert "38;2;" in text
    sizes = np.bincount(found.labels.ravel(), minlength=4) / found.labels.size
    expected = [(f"{sizes[k]:.0%}", names[k]) for k in np.argsort(-sizes, kind="stable") if sizes[k] > 0]
    assert re.findall(r"██ +(\d+%)  (\w+)", re.sub("\x1b\\[[0-9;]*m", "", text)) == expected


def test_a_picture_of_many_segments_names_as_many_as_there_is_room_for(found):
    many = replace(found, labels=np.arange(64 * 96, dtype=np.int32).reshape(64, 96) // 200, colors=palette(31))
    console = Console(file=io.StringIO(), width=80)
    console.print(pictured(many, 80))
    assert "and 16 more" in console.file.getvalue()


NO_COLORS = {"TERM": "xterm", "COLORTERM": ""}


@pytest.mark.parametrize(
    "what", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, NO_COLORS, {"encoding": "ascii"}, {"width": 40}], ids=str
)
def test_a_terminal_that_cannot_show_a_picture_is_spared_it(what):
    with terminal() as console:
        assert can_show(console)
    with terminal(**what) as console:
        assert not can_show(console)


def test_a_pipe_is_spared_it_too(tmp_path):
    with (tmp_path / "pipe").open("w", encoding="utf-8") as file:
        assert not can_show(Console(file=file, force_terminal=True, color_system="truecolor"))


SHOW = """
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from genseg.cli.progress import Bars
from genseg.cli.segment_report import Report
from genseg.segmentation import Segmentation
for images in 2, 1:
    with Bars(images) as bars:
        Report(bars, images, Path("out"), ["labels"], as_json=False).done(Path("b.png"), Segmentation.load(sys.argv[1]))
"""


def test_one_image_is_shown_on_a_terminal_and_several_are_not(segmented_folder):
    main, side = pty.openpty()
    environment = os.environ | TERMINAL | {"COLORTERM": "", "COLUMNS": "80", "LINES": "40", "PYTHONIOENCODING": "utf-8"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([sys.executable, "-c", SHOW, segmented_folder[1] / "b.npz"], stdout=side, env=environment):
        os.close(side)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's end of a terminal
            while part := os.read(main, 1 << 16):
                shown += part
    os.close(main)
    assert shown.decode().count("▄") == 48 * 16
    assert b"38;5;" in shown  # 256 colors
    assert shown.count(b"b.png: 4 segments") == 2
