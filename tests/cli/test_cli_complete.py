"""Completion in shells, and help."""

import re
import subprocess
import sys
from pathlib import Path

from commands import run

from genseg.cli import completion as complete

COMPLETE = """
import os, sys
from genseg.cli import main
for line in sys.argv[1:]:
    words = line.split()
    os.environ.update(_GENSEG_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    try:
        main()
    except SystemExit:
        pass
    print("--")
print("torch" in sys.modules)
"""


COMPLETIONS = {
    "genseg segment -b ti": "tiny",
    "genseg segment -r f": "fast",
    "genseg segment n_i": "n_init=",
    "genseg segment difference=t": "difference=two-sided",
    "genseg segment --save overlay,la": "overlay,labels\noverlay,labelme",
    "genseg segment --embedder maskc": "maskclip",
    "genseg compare --backends tiny,sd14": "tiny,sd14",
    "genseg backends show vitm": "vitmae",
    "genseg recipes pap": "paper",
}


def test_a_shell_completes_without_torch():
    command = [sys.executable, "-c", COMPLETE, *COMPLETIONS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    *completions, torch = result.stdout.split("--\n")
    assert [each.strip() for each in completions] == list(COMPLETIONS.values())
    assert torch == "False\n"


def test_recipe_files_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("paprika.yaml", "parts.yml", "papers.txt"):
        Path(name).touch()
    assert complete.recipes("pa") == ["paper", "paprika.yaml", "parts.yml"]


def test_help_tells_the_exit_codes():
    shown = run("--help").stdout
    assert all(re.search(rf"^ *{code}  ", shown, re.MULTILINE) for code in (0, 1, 2, 130))
