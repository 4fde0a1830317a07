"""The command ``genseg serve``: what it refuses, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from commands import QUICK, assert_refused, run

pytest.importorskip("gradio", reason="the app's extra is not installed")

GENSEG = (sys.executable, "-c", "from genseg.cli import main; main()")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--images", "no/such/folder"), "--images no/such/folder is no folder"),
        (("--label-studio", "localhost:8080"), "give one such as http://localhost:8080"),
        (("--embedder-model", "a"), "--embedder-model needs --embedder"),
        (("--embedder", "maskklip"), "did you mean maskclip"),
        (("--token", "short"), "at least 16 characters"),
        (("--merge", "0"), "--merge needs a number of at least 1, or auto"),
        (("--backend", "tinny"), "did you mean tiny"),
        (("n_cluster=3",), "did you mean n_clusters"),
    ],
)
def test_what_it_cannot_serve_by_is_refused_before_it_serves(arguments, words):
    assert_refused(run("serve", *arguments), words)


def test_without_the_extra_one_sentence_says_what_to_install():
    code = (
        "import sys; sys.modules['uvicorn'] = None; from genseg.cli import main; sys.argv = ['genseg', 'serve']; main()"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert outcome.returncode == 2
    assert outcome.stderr == "genseg: the service needs the package 'uvicorn'; run: pip install 'genseg[app]'\n"


@pytest.mark.slow
def test_it_serves_until_ctrl_c_and_ends_without_a_word(photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    with subprocess.Popen(
        [*GENSEG, "serve", *QUICK, "--port", "9377"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"GENSEG_SERVE_TOKEN": "0123456789abcdef"},
    ) as served:
        assert served.stdout is not None
        assert served.stdout.readline() == "genseg serve: http://127.0.0.1:9377 (Ctrl+C stops it)\n"
        asked = urllib.request.Request(
            "http://127.0.0.1:9377/segment",
            Path(tmp_path / "photo.png").read_bytes(),
            {"content-type": "image/png", "token": "0123456789abcdef"},
        )
        with urllib.request.urlopen(asked) as answer:
            assert json.load(answer)["annotations"]
        served.send_signal(signal.SIGINT)
        assert served.communicate(timeout=60) == ("", "")
    assert served.returncode == 0
