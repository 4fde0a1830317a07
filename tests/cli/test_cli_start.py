"""The start of the command line: help, and the refusal of a mistake, do not wait for torch."""

import json
import subprocess
import sys

import pytest

RUN = """
import json, sys
from typer.testing import CliRunner
from genseg.cli import app
for arguments in json.load(sys.stdin):
    result = CliRunner().invoke(app, arguments)
    heavy = sorted({"torch", "sklearn", "pandas", "ray", "networkx", "gradio", "starlette"} & sys.modules.keys())
    print(json.dumps([result.exit_code, result.output, heavy]))
"""

STARTS = {
    "--help": "segment",
    "app --help": "--max-upload-mb",
    "datasets": "ade20k",
    "recipes fast": "replay_steps: 1",
    "segment WRONG.jpg": "WRONG.jpg",
    "segment README.md size=wrong": "size",
    "segment README.md --backend tinny": "did you mean tiny",
    "generate --backend tinny": "did you mean tiny",
    "compare WRONG.jpg --backends tiny": "WRONG.jpg",
    "calibrate tiny WRONG.jpg": "WRONG.jpg",
    "evaluate folder WRONG": "WRONG is no folder",
    "evaluate foldr WRONG": "did you mean folder",
    "ablate folder WRONG --sweep t_m=181": "WRONG is no folder",
    "run WRONG": "WRONG does not exist",
    "concepts WRONG": "WRONG",
    "name WRONG --classes sky": "WRONG",
    "export WRONG voc --out there": "WRONG",
    "distill WRONG --classes names --out there": "WRONG",
}
"""Commands, and what their output has."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Exit code, output and heavy modules of each command, run one after the other in a new process."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "README.md").write_text("no image")
    commands = json.dumps([line.split() for line in STARTS])
    process = subprocess.run(
        [sys.executable, "-c", RUN], input=commands, cwd=folder, capture_output=True, text=True, check=True
    )
    return dict(zip(STARTS, map(json.loads, process.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("line", STARTS)
def test_a_command_that_runs_no_model_does_not_wait_for_torch(results, line):
    code, output, heavy = results[line]
    assert STARTS[line] in output
    assert code == (0 if line in ("--help", "app --help", "datasets", "recipes fast") else 2)
    assert not heavy
