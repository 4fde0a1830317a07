"""The app below the page: options, runs, pictures and downloads."""

import gc
import io
import json
import shlex
import subprocess
import sys
import tomllib
import weakref
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from app_parts import QUICK, REQUEST, ROOT, done, engine, labels_of, png, session  # noqa: F401
from PIL import Image
from typer.testing import CliRunner

import genseg
from genseg import GensegError
from genseg.app.downloads import FILES, download
from genseg.app.options import CLUSTERS, ELSEWHERE, MAX_IN_APP, advanced, as_text, key_help
from genseg.app.photos import examples
from genseg.app.render import difference_map, files, grid_cells, view, views
from genseg.app.session import Session
from genseg.cli import app as command_line
from genseg.display.palette import palette
from genseg.recipe import BOUNDS, CHOICES, Recipe
from genseg.web.request import SegmentRequest


def test_every_key_of_the_recipe_is_an_option_with_its_choices_and_help():
    options = {option.key: option for option in advanced()}
    assert {field.name for field in fields(Recipe)} == options.keys() | set(ELSEWHERE)
    assert all(len(option.help) > 10 for option in options.values())
    assert {key: options[key].choices for key in CHOICES} == CHOICES
    assert [options[key].kind for key in ("t_m", "size", "blur", "tap", "injection")] == [
        "integer",
        "integer",
        "number",
        "text",
        "choice",
    ]
    assert options["margin"].help.endswith("A multiple of the backend's size_multiple.")  # its last line
    assert key_help()["t_f"] == "Timestep at which features are read (paper: 1; the authors' notebook: 0)."


def test_options_are_given_as_on_the_command_line_and_bounded():
    options = {option.key: option for option in (*advanced(), CLUSTERS)}
    typed = {"size": " 64", "tap": "up1.0.self", "blur": "0.5", "injection": "false", "point": "", "reach": "  "}
    options_text = as_text([(options[key], value) for key, value in typed.items()])
    assert options_text == ("size=64", "tap=up1.0.self", "blur=0.5", "injection=false")
    for key in MAX_IN_APP.keys() | {"reach", "t_m", "blur"}:
        least, most = options[key].bounds
        assert as_text([(options[key], str(most))]) == (f"{key}={most}",)
        assert most == MAX_IN_APP.get(key, BOUNDS[key][1])
        with pytest.raises(GensegError, match=f"{key} must be from {least:g} to {most} in the app"):
            as_text([(options[key], str(most + 1))])


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("size", "0xffff", "a whole number"),
        ("size", "1_000_000", "a whole number"),
        ("size", "${t_m}", "a whole number"),
        ("blur", "nan", "a number"),
        ("tap", "${oc.env:HOME}", "a name"),
        ("tap", "a b", "a name"),
        ("decoder", "none", "one of full, tiny, latent"),
    ],
)
def test_what_yaml_would_make_more_of_is_refused(key, value, what):
    option = next(option for option in advanced() if option.key == key)
    with pytest.raises(GensegError, match=f"{key} must be {what}, not"):
        as_text([(option, value)])


def test_a_run_gives_what_the_api_gives_and_tells_its_stages(done, photo):
    session, statuses = done
    expected = genseg.segment(photo, seed=3, n_clusters=4, size=64, draws=1, replay_steps=1, n_init=1)
    assert np.array_equal(session.results[0].labels, expected.labels)
    assert np.array_equal(labels_of(session), expected.labels)
    assert statuses[0].words in ("starting", "loading the model")
    assert all(0 <= status.fraction <= 1 for status in statuses)


def test_progress_has_words_a_part_and_the_time_left(engine, photo):
    session = Session(engine)
    session.take(png(photo), "photo.png")
    list(session.segment([REQUEST]))  # the measure of the next
    engine.estimate(REQUEST).report("encode", 0, 1)
    engine.estimate(REQUEST).report("modulate", 1, 4)
    session._running, session._progress = REQUEST, ("modulate", 1, 4)
    status = session._status()
    assert status.words.startswith("perturbing clusters 1/4 masks, 0:0")
    assert status.words.endswith(" left")
    assert status.fraction == 0.25


def test_merging_relabels_without_the_model(session, engine, monkeypatch):
    list(session.segment([REQUEST]))
    monkeypatch.setattr(engine, "segment", None)
    whole = session.results[0]
    session.pick(0, 0)
    session.merge(2)
    assert np.array_equal(labels_of(session), whole.merge(2).labels)
    assert session.picked is None  # numbers have changed
    session.merge(session.most_segments)
    assert session.merged is None
    assert np.array_equal(labels_of(session), whole.labels)
    with pytest.raises(GensegError, match="not 0"):
        session.merge(0)


def test_a_picked_segment_shows_its_difference_map_and_its_cells(done):
    session, _ = done
    result = session.results[0]
    label = int(result.labels[0, 0])
    levels = np.asarray(difference_map(result, label)).astype(int).sum(axis=2)
    assert levels.shape == result.labels.shape
    inside = result.labels == label
    assert levels[inside].mean() > 1.2 * levels[~inside].mean()
    cells = np.asarray(grid_cells(result, label)).astype(int)
    height, width = result.labels.shape
    rows, columns = result.grid_labels.shape
    at = tuple(np.ix_(*(((np.arange(n) + 0.5) * k / n).astype(int) for n, k in ((height, rows), (width, columns)))))
    faded = (0.25 * result.image + 191).astype(int)
    same = (cells == faded).all(axis=2)
    assert np.array_equal(same, result.grid_labels[at] != label)
    assert view(Image.fromarray(result.image), result)["areas"] == np.bincount(result.labels.ravel()).tolist()


def test_two_backends_side_by_side_agree_as_the_api_says_with_one_model_in_memory(session, engine):
    from genseg.evaluation.agreement import ari, boundary_f, matched_iou

    other = SegmentRequest("sd14", options=QUICK)
    list(session.segment([REQUEST]))
    tiny = weakref.ref(engine._loaded[1])
    list(session.segment([REQUEST, other]))
    gc.collect()
    assert tiny() is None
    assert engine._loaded[1].name == "sd14"
    first, second = (result.labels for result in session.results)
    assert [result.backend for result in session.results] == ["tiny", "sd14"]
    assert list(session.agreement().values()) == [
        ari(first, second),
        matched_iou(first, second),
        boundary_f(first, second),
    ]
    assert 0 < session.agreement()["matched IoU"] < 1
    assert download(session, 1, "labels.png")[0] == "my photo's.2-sd14.labels.png"
    assert np.array_equal(labels_of(session, 1), second)
    session.merge(2)
    assert session.agreement()["adjusted Rand index"] == ari(*(result.labels for result in session.shown))
    assert session.reproduced()[0].count("--backend") == 2


def test_titles_distinguish_two_recipes_of_one_backend(session):
    list(session.segment([REQUEST, SegmentRequest("tiny", "plus", options=QUICK)]))
    assert "<span>tiny:</span>" in files(session)
    assert "<span>tiny, plus:</span>" in files(session)
    assert [view["title"].partition(":")[0] for view in views(session)] == ["tiny", "tiny, plus"]


def test_a_label_map_of_more_than_256_segments_is_exact(session):
    list(session.segment([REQUEST]))
    many = session.results[0]
    session.results[0] = replace(many, labels=many.labels + 290, colors=palette(300))
    with Image.open(io.BytesIO(download(session, 0, "labels.png")[1])) as picture:
        assert np.array_equal(np.asarray(picture), session.results[0].labels)


def test_coco_holds_the_segments_exactly(done):
    masks = pytest.importorskip("pycocotools.mask")
    result = done[0].results[0]
    dataset = json.loads(download(done[0], 0, "coco.json")[1])
    assert dataset == result.to_coco("photo.png")
    assert dataset["images"] == [{"id": 1, "file_name": "photo.png", "width": 96, "height": 64}]
    covered = np.zeros_like(result.labels)
    for one in dataset["annotations"]:
        rle = masks.frPyObjects(one["segmentation"], 64, 96)
        mask = masks.decode(rle).astype(bool)
        assert np.array_equal(mask, result.labels == one["id"] - 1)
        assert (one["area"], one["bbox"]) == (mask.sum(), masks.toBbox(rle).tolist())
        covered += mask
    assert (covered == 1).all()


def test_downloads_are_what_the_api_makes(done):
    session, _ = done
    result = session.results[0]
    made = {kind: download(session, 0, kind) for kind in FILES}
    assert [name for name, _ in made.values()] == [f"photo.{kind}" for kind in FILES]
    pixels = {kind: np.asarray(Image.open(io.BytesIO(made[kind][1]))) for kind in ("overlay.png", "image.png")}
    assert np.array_equal(pixels["overlay.png"], np.asarray(result.overlay()))
    assert np.array_equal(pixels["image.png"], result.image)
    for which, kind in ((1, "labels.png"), (0, "../run.py"), (-1, "labels.png")):
        with pytest.raises(GensegError, match="there is no such file"):
            download(session, which, kind)


@pytest.mark.parametrize("merged", [None, 2])
def test_the_command_line_and_the_python_make_the_same_labels(session, merged, tmp_path, monkeypatch):
    run = SegmentRequest("tiny", "fast", (*QUICK, "injection=false", "difference=two-sided", "blur=0.5"), 5)
    list(session.segment([run]))
    if merged is not None:
        session.merge(merged)
    expected = labels_of(session)
    monkeypatch.chdir(tmp_path)
    Path(session.name).write_bytes(download(session, 0, "image.png")[1])
    command, python = session.reproduced()
    words = shlex.split(command)
    assert words[:3] == ["genseg", "segment", "my photo's.png"]
    outcome = CliRunner().invoke(command_line, [*words[1:], "--out", "out"], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert np.array_equal(np.asarray(Image.open("out/my photo's.labels.png")), expected)
    made: dict = {}
    exec(python, made)
    assert np.array_equal(made["seg"].labels, expected)
    assert np.array_equal(np.asarray(Image.open("labels.png")), expected)


def test_reproduction_names_model_device_and_dtype(engine):
    run = engine.complete(SegmentRequest("sd14", options=("tap=it's",)))
    assert f"--model {engine._models['sd14']} --device cpu" in run.command_line("-a.png")
    assert "./-a.png" in run.command_line("-a.png")
    assert "device='cpu'" in run.python("a.png")
    assert 'tap="it\'s"' in run.python("a.png")


def test_the_examples_are_there_and_go_into_the_wheel():
    assert [path.stem for path in examples()] == ["astronaut", "chelsea", "coffee", "rocket"]
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    ((source, target),) = wheel["force-include"].items()
    assert (ROOT / source).samefile(examples()[0].parent)
    assert target == "genseg/app/examples"


def _python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_the_extra_one_sentence_says_what_to_install():
    outcome = _python(
        "import sys; sys.modules['gradio'] = None; sys.argv = ['genseg', 'app']; from genseg.cli import main; main()"
    )
    assert outcome.returncode == 2
    assert outcome.stderr == "genseg: the app needs the package 'gradio'; run: pip install 'genseg[app]'\n"
