"""``genseg segment --names``."""

import sys
from pathlib import Path

import numpy as np
import pytest
from colors import registry
from typer.testing import CliRunner

import genseg
from genseg.cli import app

QUICK = ("size=32", "margin=0", "draws=1", "replay_steps=1", "n_init=1", "n_clusters=3")


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def picture(photo, tmp_path: Path) -> Path:
    photo.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_names_are_printed_and_drawn_and_kept(picture, tmp_path, monkeypatch):
    monkeypatch.setattr("genseg.registry.EMBEDDERS.plugins", registry())
    common = ("segment", picture, *QUICK, "--save", "labels,overlay,npz")
    plain = run(*common, "-o", tmp_path / "plain")
    named = run(*common, "-o", tmp_path / "named", "--names", "red,blue, gray", "--embedder", "colors")
    assert plain.exit_code == named.exit_code == 0, named.stderr
    seg = genseg.Segmentation.load(tmp_path / "named/photo.npz")
    assert set(seg.names) <= {"red", "blue", "gray"}
    labels, sizes = np.unique(seg.labels, return_counts=True)
    largest = labels[sizes.argmax()]
    lines = [line for line in named.stdout.splitlines() if line.startswith("  ")]
    assert len(lines) == 1
    assert not any(line.startswith("  ") for line in plain.stdout.splitlines())
    assert lines[0].startswith(f"  {largest} {seg.names[largest]} {sizes.max() / seg.labels.size:.0%}, ")
    assert lines[0].count("%") == 3
    same, other = ((tmp_path / kind / "photo.labels.png").read_bytes() for kind in ("plain", "named"))
    assert same == other
    same, other = ((tmp_path / kind / "photo.overlay.png").read_bytes() for kind in ("plain", "named"))
    assert same != other


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--names", "sky", "--embedder", "maskklip"), "unknown embedder 'maskklip': did you mean maskclip"),
        (("--names", "sky,,"), "a class has no name"),
        (("--names", "sky,|car"), "a class has no name"),
        (("--names", "car|auto,car|truck"), "class 'car' is named twice"),
        (("--embedder", "maskclip"), "give classes too"),
        (("--names", "sky", "--embedder", "tcl"), "give it as model="),
        (("--names", "sky", "--embedder-model", "no/such/folder"), "there is no file or folder no/such/folder"),
    ],
)
def test_what_cannot_be_named_is_one_sentence(picture, tmp_path, arguments, said):
    refused = run("segment", picture, *QUICK, *arguments, "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_missing_package_is_named_with_its_cure(picture, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused = run("segment", picture, *QUICK, "--names", "sky", "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "this needs the package 'transformers'; run: pip install 'genseg[sd]'" in refused.stderr
