"""Lists of paths, JSON for machines, and what a run would cost."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, assert_refused, run
from PIL import Image

import genseg
from genseg.cli.dry_run import estimate_cost

KEYS = ["image", "status", "error", "files", "width", "height", "segments", "sizes", "names", "seconds", "evaluations"]


KEYS += ["backend", "seed", "recipe"]


@pytest.mark.parametrize(
    ("separator", "encoding"),
    [("\n", "utf-8"), ("\r\n", "utf-8"), ("\0", "utf-8"), ("\r\n", "utf-8-sig"), ("\r\n", "utf-16")],
    ids=["lines", "dos", "nul", "bom", "utf-16"],
)
def test_a_list_of_paths_is_read_and_bad_lines_are_told_at_the_end(segmented_folder, photo_folder, separator, encoding):
    _, out = segmented_folder
    lines = ["none.png", str(photo_folder / "b.png"), "", str(photo_folder / "*.JPG"), "no such dir", ""]
    listed = separator.join(lines).encode(encoding)
    result = run("segment", "-", "-o", out, "--model", "missing", given=listed)  # skipped, so no model is loaded
    assert result.exit_code == 1
    assert result.stdout.count("skipped") == 2
    assert result.stderr == "".join(
        f"genseg: {line} does not exist; check the path\n" for line in ("none.png", "no such dir")
    )


def test_an_empty_list_is_no_input():
    assert_refused(run("segment", "-", given=b"\n"), "no image given")


def test_json_has_a_line_for_each_image_and_nothing_else(photo_folder, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "a.labels.png").write_text("mine")
    inputs = [photo_folder / "b.png", photo_folder / "a.JPG", tmp_path / "text.png", "-"]
    common = ("-o", tmp_path, "--json", "--save", "labels", "--seed", "3", "-k", "4")
    result = run("segment", *inputs, *QUICK, *common, given=b"none.png\n")
    assert result.exit_code == 1
    records = {Path(record["image"]).name: record for record in map(json.loads, result.stdout.splitlines())}
    assert all(list(record) == KEYS for record in records.values())
    assert {name: record["status"] for name, record in records.items()} == {
        "none.png": "failed",
        "a.JPG": "skipped",
        "b.png": "done",
        "text.png": "failed",
    }
    assert records["none.png"]["error"] == "none.png does not exist; check the path"
    assert records["text.png"]["error"] in result.stderr
    assert records["a.JPG"]["files"] == {"labels": str(tmp_path / "a.labels.png")}
    found, labels = records["b.png"], np.asarray(Image.open(tmp_path / "b.labels.png"))
    assert (found["width"], found["height"], found["backend"], found["seed"]) == (96, 64, "tiny", 3)
    assert found["files"] == {"labels": str(tmp_path / "b.labels.png")}
    assert found["sizes"] == np.bincount(labels.ravel(), minlength=4).tolist()
    assert (found["segments"], found["evaluations"]) == (len(np.unique(labels)), 1)
    assert genseg.Recipe(**found["recipe"]).n_clusters == 4
    assert found["seconds"] > 0


def test_a_dry_run_counts_what_a_run_takes_and_writes_nothing(photo_folder, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    out, recipe = (
        tmp_path / "out",
        ("-r", "fast", "size=32", "margin=0", "draws=5", "n_init=1", "replay_steps=2", "-k", "6"),
    )
    command = ("segment", tmp_path / "text.png", photo_folder / "b.png", *recipe, "-o", out, "--save", "npz", "--json")
    told = run(*command, "--dry-run")
    assert told.exit_code == 1  # for the image that cannot be read
    assert not out.exists()
    _, cost = map(json.loads, told.stdout.splitlines())
    assert (cost["images"], cost["probe"]) == (1, str(photo_folder / "b.png"))
    assert (
        cost["per_image"]["measured"] == "2 of 5 noise draws, 1 of 1 restarts of k-means, 2 of 2 steps and 2 of 6 masks"
    )
    _, record = map(json.loads, run(*command).stdout.splitlines())
    assert cost["evaluations"] == record["evaluations"] == 5 + 2 * 13
    assert cost["seconds"] == pytest.approx(cost["loading"] + sum(cost["per_image"]["seconds"].values()), abs=0.01)
    assert 0.7 < cost["bytes"] / (out / "b.npz").stat().st_size < 1.4


def test_a_dry_run_says_how_it_estimates(photo_folder, tmp_path):
    result = run("segment", photo_folder / "b.png", *QUICK, "-k", "4", "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    count, time, cost, files, how = result.stdout.splitlines()
    assert count == "images: 1"
    assert re.fullmatch(r"time: \d+:\d\d, \d+\.\d s of it to load the model", time)
    assert cost.endswith("1 model evaluations")
    assert re.fullmatch(rf"files: [\d.]+ kB in {re.escape(str(tmp_path / 'out'))}", files)
    parts = "1 of 1 noise draws, 1 of 1 restarts of k-means"
    assert how.startswith(f"measured on {photo_folder / 'b.png'}: {parts}")


def test_a_dry_run_of_what_exists_says_that_nothing_is_to_be_done(segmented_folder, photo_folder, tmp_path):
    _, out = segmented_folder
    command = ("segment", photo_folder / "b.png", "--dry-run", *QUICK, "-k", "4")
    told = run(*command, "-o", out, "--model", "missing")
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout == f"nothing to do: all files exist in {out}; --overwrite makes them again\n"
    nothing = json.loads(run(*command, "-o", out, "--json").stdout)
    assert list(nothing) == list(json.loads(run(*command, "-o", tmp_path, "--json").stdout))
    assert (nothing["images"], nothing["seconds"], nothing["bytes"], nothing["backend"]) == (0, 0, 0, "tiny")
    (tmp_path / "text.png").write_text("no image")
    failed = run("segment", tmp_path / "text.png", "--dry-run", *QUICK, "-o", tmp_path)
    assert "nothing to do" not in failed.stdout


def test_a_dry_run_takes_less_than_a_tenth_of_the_run(tiny, photo):
    segmenter = genseg.Segmenter(tiny, "paper", size=32, margin=0)
    before = tiny.meter.evaluations
    estimate = estimate_cost(segmenter, photo, lambda segmentation, folder: segmentation.save(folder / "x.npz"))
    assert estimate.evaluations == 100 + 10 * (1 + 2 * 15)
    assert tiny.meter.evaluations - before < 0.1 * estimate.evaluations
    assert "3 of 10 restarts" in estimate.measured


def test_lists_may_be_given_in_several_options(photo_folder, tmp_path):
    from genseg.cli.options import methods_in, protocols_in

    result = run(
        "segment", photo_folder / "b.png", *QUICK, "-k", "3", "-o", tmp_path, "--save", "npz", "--save", "labels"
    )
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"b.npz", "b.labels.png"}
    assert methods_in(["naive", "slic,naive"]) == ["modulation", "naive", "slic"]
    assert protocols_in(["oracle", "concept"]) == ["oracle", "concept"]
