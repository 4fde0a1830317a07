import json
import re
from pathlib import Path

import commands
import numpy as np
import pytest
from commands import assert_refused
from PIL import Image

import genseg
from genseg.cli.commands.calibrate import _spaced

QUICK = ("size=32", "draws=1", "replay_steps=1", "n_init=1", "n_clusters=3", "margin=0")
GRID = [
    f"--grid={each}"
    for each in ("tap=up1.2.output", "channels=", "t_f=201", "point=up1.1.cross", "t_m=", "strength=0,50")
]


def run(*arguments: object):
    return commands.run("calibrate", *arguments)


@pytest.fixture
def image(photo, tmp_path: Path) -> Path:
    photo.save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_recipe_a_plot_and_the_trials_are_written_and_segment_takes_the_recipe(image, tmp_path):
    out = tmp_path / "out"
    result = run("tiny", image, *QUICK, *GRID, "-o", out, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert {file.name for file in out.iterdir()} == {"tiny.yaml", "tiny.png", "tiny.jsonl"}
    assert len((out / "tiny.jsonl").read_text().splitlines()) == 3
    with Image.open(out / "tiny.png") as plot:
        assert plot.format == "PNG"
    printed = result.stdout.splitlines()
    tried = "1 of tap, 1 of t_f, 1 of point, 2 of strength in each"
    assert printed[0] == f"1 images; at most 11 settings in 2 rounds: the start, and {tried}"
    assert printed[1] == "start: image 0 of at most 11"
    rows = [line.split() for line in printed if re.match(r"strength +\d", line)]
    assert [row[1] for row in rows] == ["0.0", "25.0", "50.0"]
    assert rows[0][2] == "0.000"
    assert sum(row[-1] == "chosen" for row in rows) == 1
    assert result.stdout.splitlines()[-1] == f"genseg segment IMAGE -b tiny -r {out / 'tiny.yaml'}"

    segment = ["segment", image, "-b", "tiny", "-r", out / "tiny.yaml", "-o", out, "--save", "npz"]
    assert commands.run(*segment).exit_code == 0
    recipe = genseg.Segmentation.load(out / "a.npz").recipe
    chosen = next(float(row[1]) for row in rows if row[-1] == "chosen")
    assert (recipe.strength, recipe.size, recipe.n_clusters) == (chosen, 32, 3)


def test_a_dry_run_says_what_would_be_tried(image, tmp_path):
    result = run("tiny", image, *QUICK, "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "at most" in result.stdout
    assert "5 of strength" in result.stdout
    assert not any((tmp_path / "out").glob("*"))


def test_labels_are_found_by_name_with_classes_or_annotators(image, tmp_path):
    truth = np.zeros((64, 96), np.uint8)
    truth[:, 40:] = 1
    for name in ("classes/a.png", "regions/a.0.png", "regions/a.1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(truth).save(tmp_path / name)
    Image.fromarray(0 * truth).save(tmp_path / "regions" / "a.1.png")
    scores = []
    for folder in ("classes", "regions"):
        labels = ("--labels", tmp_path / folder)
        result = run("tiny", image, *QUICK, *GRID[:-1], "--grid=strength=50", *labels, "-o", tmp_path / folder / "out")
        assert result.exit_code == 0, result.stderr
        assert "oracle mIoU and boundary F" in result.stdout
        scores.append(json.loads((tmp_path / folder / "out" / "tiny.jsonl").read_text().splitlines()[0])["score"])
    assert scores[0] != scores[1]  # the second annotator counts


def test_the_protocol_is_named_in_table_and_trials(image, tmp_path):
    truth = np.zeros((64, 96), np.uint8)
    truth[:, 40:] = 1
    (tmp_path / "labels").mkdir()
    Image.fromarray(truth).save(tmp_path / "labels" / "a.png")
    line = ("--labels", tmp_path / "labels", "--protocol", "concept", "-o", tmp_path / "out")
    result = run("tiny", image, *QUICK, *GRID[:-1], "--grid=strength=", *line)
    assert result.exit_code == 0, result.stderr
    assert "concept_miou" in result.stdout
    assert "mean of concept mIoU and boundary F: " in result.stdout
    assert set(json.loads((tmp_path / "out" / "tiny.jsonl").read_text())["terms"]) == {
        "concept_miou",
        "concept_boundary_f",
    }


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--grid", "strength"], ["KEY=A,B"]),
        (["--grid", "strength=much"], ["strength"]),
        (["--grid", "tap=up9"], ["unknown tap", "features --list"]),
        (["--grid", "size=64"], ["unknown factor"]),
        (["--images", "0"], ["--images"]),
        (["sizes=64"], ["did you mean size"]),
        (["--labels", "nowhere"], ["nowhere", "a.png", "a.0.png"]),
        (["--protocol", "concept"], ["give the truths too"]),
        (["--protocol", "orakle"], ["did you mean oracle"]),
    ],
)
def test_wrong_arguments_end_in_one_sentence(image, arguments, parts, tmp_path):
    assert_refused(run("tiny", image, *arguments, "-o", tmp_path / "out"), *parts)


def test_labels_in_color_are_refused(image, tmp_path):
    assert_refused(run("tiny", image, "--labels", image.parent, "-o", tmp_path / "out"), "colors, not labels")


def test_images_are_taken_evenly_spaced():
    paths = [Path(str(n)) for n in range(10)]
    assert [path.name for path in _spaced(paths, 5)] == ["0", "2", "4", "6", "8"]
    assert _spaced(paths, 20) == paths
