"""The command that compares models."""

import json
import os
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from genseg.cli import app

QUICK = ("size=32", "margin=0", "draws=1", "replay_steps=1", "n_init=1")


def run(*arguments: object):
    """One command line; an exception that is no exit is raised, as a traceback would be."""
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(photo, tmp_path_factory):
    """Two photos and, apart, their labels."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "labels").mkdir()
    for name, size in (("a", (96, 64)), ("b", (64, 64))):
        photo.resize(size).save(folder / f"{name}.png")
        photo.resize(size).convert("L").point(lambda v: v // 128).save(folder / "labels" / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def done(folder, sd_checkpoint, tmp_path_factory):
    """The command line of a run over both with two models, what it said, and where its files are."""
    out = tmp_path_factory.mktemp("done") / "report"
    line = [folder, "-b", "tiny,sd15", "--model", f"sd15={sd_checkpoint}", "-k", 4, "--labels", folder / "labels"]
    line += ["--protocol", "all"]
    line += ["-o", out, "--seed", 3, "--device", "cpu", *QUICK]
    return line, run(*line), out


def test_the_report_and_its_tables_are_written(done):
    _, result, out = done
    assert result.exit_code == 0, result.stderr
    assert "genseg" not in result.stderr
    files = {file.name for file in out.iterdir()}
    assert files == {"index.html", "comparison.json", "images.csv", "pairs.csv", "tiny", "sd15"}
    what = json.loads((out / "comparison.json").read_text())
    assert (what["seed"], what["recipes"]["sd15"]["n_clusters"], what["recipes"]["sd15"]["size"]) == (3, 4, 32)
    for name, rows in (("images", 4), ("pairs", 2)):
        table = pd.read_csv(out / f"{name}.csv")
        assert len(table) == rows
        pd.testing.assert_frame_equal(table, pd.DataFrame(what[name]), check_dtype=False)
    assert pd.read_csv(out / "images.csv")["oracle_accuracy"].between(0.5, 1).all()
    page = (out / "index.html").read_text()
    assert "sd15" in page
    for protocol in ("traditional", "concept", "per-image-hungarian", "per-image-many-to-one", "oracle"):
        assert pd.read_csv(out / "images.csv")[f"{protocol}_miou"].between(0, 1).all()
        assert f"{protocol}_miou" in what["protocols"]
        assert f">{protocol} mIoU<" in page


def test_plain_lines_say_what_is_done_and_a_second_run_keeps_it(done, tmp_path):
    line, first, out = done
    ends = [f"{backend}, {image}: done" for backend in ("tiny", "sd15") for image in "ab"]
    told = f"report in {out}: index.html, comparison.json, images.csv, pairs.csv"
    assert first.stdout.splitlines() == [*ends, told]
    shutil.copytree(out, tmp_path / "copy")
    second = run(*line[: line.index("-o") + 1], tmp_path / "copy", *line[line.index("-o") + 2 :])
    assert second.exit_code == 0
    assert second.stdout.splitlines()[:4] == [end.replace("done", "kept") for end in ends]
    assert (tmp_path / "copy" / "images.csv").read_text() == (out / "images.csv").read_text()


def test_names_that_are_not_utf8_or_begin_like_formulas_are_reported_too(folder, tmp_path):
    image = tmp_path / os.fsdecode(b"=caf\xe9.png")
    shutil.copy(folder / "a.png", image)
    result = run(image, "-b", "tiny", "-o", tmp_path / "out", "-k", 4, *QUICK)
    assert result.exit_code == 0, result.stderr
    assert r"=caf\xe9" in (tmp_path / "out/index.html").read_text()
    assert json.loads((tmp_path / "out/comparison.json").read_text())["images"][0]["image"] == r"=caf\xe9"
    assert r"'=caf\xe9" in (tmp_path / "out/images.csv").read_text()


def test_what_is_left_out_is_told_and_the_rest_is_reported(folder, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    images = (folder / "a.png", tmp_path / "broken.png")
    result = run(
        *images, "-b", "sd15,tiny", "--model", f"sd15={tmp_path}/none", "-o", tmp_path / "out", "-k", 4, *QUICK
    )
    assert result.exit_code == 1
    warning, first, second = result.stderr.splitlines()
    assert warning.startswith("genseg: warning: tiny alone is left of 2 backends, so no two are compared; mend ")
    assert first.startswith(f"genseg: broken: {tmp_path}/broken.png is not an image")
    assert first.count("broken.png") == 1
    assert second.startswith("genseg: sd15: ")
    assert "none" in second
    assert len(pd.read_csv(tmp_path / "out" / "images.csv")) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["-b", "tinny"], "did you mean tiny"),
        (["-b", "tiny", "-k", "1"], "n_clusters must be a whole number from 2 to 10000"),
        (["-b", "tiny", "-k", "4", "n_clusters=5"], "-k 4 and n_clusters=5 both set"),
        (["-b", "tiny", "n_clusters=auto"], "one number of clusters"),
        (["-b", "tiny", "siz=3"], "did you mean size"),
        (["-b", "tiny", "--seed", "-1"], "seed must be at least 0"),
        (["-b", "tiny", "--model", "x"], "--model x is not NAME=MODEL"),
        (["-b", "tiny", "--model", "sd15=x"], "unknown backend in models 'sd15'"),
        (["-b", "tiny", "--labels", "nowhere"], "nowhere/a.png does not exist"),
        (["-b", "tiny", "-r", "papper"], "did you mean paper"),
        (["-b", "tiny", "--protocol", "concept"], "give the truths too"),
        (["-b", "tiny", "--protocol", "orakle"], "did you mean oracle"),
    ],
)
def test_bad_input_is_one_sentence(folder, tmp_path, given, words):
    result = run(folder / "a.png", "-o", tmp_path, *given)
    assert result.exit_code == (1 if "--labels" in given else 2)  # without its truth the only image is left out
    assert result.stderr.startswith("genseg: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


def test_the_folder_is_tried_before_anything_is_done(folder, tmp_path):
    (tmp_path / "file").write_text("")
    result = run(folder / "a.png", "-b", "tiny", "-o", tmp_path / "file")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "choose another --out" in result.stderr


def test_backends_may_be_named_one_by_one(photo_folder, tmp_path):
    result = run(photo_folder / "b.png", "-b", "tinny", "-b", "tiny", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "unknown backend 'tinny': did you mean tiny" in result.output
