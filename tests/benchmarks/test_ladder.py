"""The ladder of approximations on two photos of two sets, and what its figures mean."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import genseg
import ladder
from ladder_report import Measured, figures
from quality import record_of

RECIPE = ["size=32", "margin=0", "draws=2", "n_init=1", "num_inference_steps=4", "t_m=501"]


@pytest.fixture(scope="module")
def data(tmp_path_factory, photo):
    """A set with classes and one with two annotators, of two photos each."""
    folder = tmp_path_factory.mktemp("data")
    truth = np.zeros((64, 96), np.uint8)
    truth[:, 48:] = 1
    for name, suffixes in (("classes", [""]), ("regions", [".0", ".1"])):
        for part in ("images", "labels"):
            (folder / name / part).mkdir(parents=True)
        for number, picture in enumerate([photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]):
            picture.save(folder / name / "images" / f"{number}.png")
            for suffix in suffixes:
                Image.fromarray(truth).save(folder / name / "labels" / f"{number}{suffix}.png")
    return folder


@pytest.fixture(scope="module")
def climb(data, tmp_path_factory):
    """Runs the command into one folder; returns its report."""
    out = tmp_path_factory.mktemp("out") / "ladder.json"

    def run(*rungs):
        options = ["--data", str(data), "--sets", "classes", "regions", "--images", "2", "--clusters", "3"]
        ladder.main([*options, "--out", str(out), "--rungs", *rungs, *RECIPE])
        return json.loads(out.read_text()), out

    return run


@pytest.fixture(scope="module")
def report(climb):
    return climb("paper,replay_steps=1", "paper,t_f=901", "naive", "paper,no_such_key=1", "paper,point=nowhere")


@pytest.mark.slow
def test_rungs_stand_beside_paper(report):
    found, out = report
    rungs = found["rungs"]
    assert list(rungs) == ["paper", "replay_steps=1", "t_f=901", "naive"]
    assert rungs["paper"]["agreement"] == {"equal": 1, "matched": 1, "ari": 1}
    assert rungs["paper"]["speedup"] == 1
    assert rungs["paper"]["change"]["miou"]["mean"] == {"value": 0, "interval": [0, 0]}
    assert rungs["replay_steps=1"]["speedup"] > 1
    assert 0 < rungs["naive"]["agreement"]["matched"] < 1
    assert set(rungs["naive"]["change"]["boundary_f"]) == {"classes", "regions", "mean"}
    assert out.with_suffix(".md").read_text().count("\n") == 2 + len(rungs)


@pytest.mark.slow
def test_only_rungs_that_move_features_have_other_clusters(report):
    rungs = report[0]["rungs"]
    for name in ("replay_steps=1", "naive"):
        assert rungs[name]["agreement_same_clusters"] == rungs[name]["agreement"]
    assert rungs["t_f=901"]["agreement"]["matched"] < 1
    assert rungs["t_f=901"]["agreement_same_clusters"]["matched"] == 1  # the modulation is that of paper


@pytest.mark.slow
def test_rungs_that_do_not_work_are_left_out_and_say_why(report):
    failed = report[0]["failed"]
    assert "no_such_key" in failed["paper,no_such_key=1"]
    assert "nowhere" in failed["point=nowhere"]


@pytest.mark.slow
def test_a_second_run_computes_nothing_again(report, climb):
    first, out = report
    files = {f: f.stat().st_mtime_ns for f in (out.parent / ".ladder_cache").iterdir()}
    again, _ = climb("paper,replay_steps=1")
    assert {f: f.stat().st_mtime_ns for f in (out.parent / ".ladder_cache").iterdir()} == files
    assert again["rungs"]["replay_steps=1"] == first["rungs"]["replay_steps=1"]


def photo_of(labels, seconds, truth):
    return Measured("a", labels, labels, {"modulate": seconds}, record_of(labels, [truth], 2), 2)


def test_figures_of_one_photo_are_closed_forms():
    truth = np.tile(np.arange(16) // 8, (16, 1))
    paper = {"set": [photo_of(truth, 6.0, truth)]}
    permuted = figures({"set": [photo_of(1 - truth, 2.0, truth)]}, paper, None)
    assert permuted["speedup"] == 3
    assert permuted["speedup_same_dtype"] is None
    assert permuted["agreement"] == {"equal": 0, "matched": 1, "ari": 1}
    blank = figures({"set": [photo_of(np.zeros_like(truth), 2.0, truth)]}, paper, paper)
    assert blank["speedup_same_dtype"] == 3
    assert blank["agreement"]["matched"] == blank["worst_agreement"] == 0.5
    assert blank["change"]["boundary_f"]["set"] == {"value": -1, "interval": [-1, -1]}
    assert blank["change"]["miou"]["mean"]["value"] == pytest.approx(0.25 - 1)  # IoU 1/2 and 0


def test_other_photos_cannot_be_compared():
    truth = np.zeros((8, 8), int)
    photo = photo_of(truth, 1.0, truth)
    with pytest.raises(AssertionError):
        figures({"set": [photo]}, {"set": [replace(photo, name="b")]}, None)


def test_every_rung_listed_is_written_as_the_command_reads_it():
    for text in ladder.RUNGS:
        if text != ladder.NAIVE:
            assert ladder.Procedure.of(text).name in ("paper", "fast")
    assert ladder.RUNGS[0] == ladder.PAPER
    with pytest.raises(genseg.GensegError):
        ladder.Procedure.of(ladder.NAIVE)
