"""The app below the page: options, runs, pictures and downloads."""

import gc
import io
import json
import shlex
import subprocess
import sys
import tomllib
import weakref
import zipfile
from dataclasses import fields, replace
from pathlib import Path, PurePath

import numpy as np
import pytest
from app_parts import QUICK, REQUEST, ROOT, done, edited, engine, pixels, png, session  # noqa: F401
from PIL import Image
from typer.testing import CliRunner

import genseg
from genseg import GensegError
from genseg.app.downloads import FILES, FORMATS, download
from genseg.app.edits import Edits, Joined
from genseg.app.options import CLUSTERS, ELSEWHERE, MAX_IN_APP, PRESETS, advanced, as_text, key_help, recipe_help
from genseg.app.photos import examples
from genseg.app.render import as_data, coded, details, grid_cells, score_map, view, views
from genseg.app.session import Session
from genseg.cli import app as command_line
from genseg.display.palette import palette
from genseg.exports.formats import EXPORTS
from genseg.recipe import BOUNDS, CHOICES, Recipe, list_presets
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
    expected = genseg.segment(photo, seed=3, n_clusters=4, size=32, margin=0, draws=1, n_init=1, modulate=True)
    assert np.array_equal(session.results[0].labels, expected.labels)
    assert np.array_equal(pixels(session), expected.labels)
    assert statuses[0].words.startswith(("starting", "loading the model"))
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


@pytest.mark.parametrize(
    ("edits", "same"),
    [
        ({"number": 2}, lambda result: result.merge(2)),
        ({"number": 99}, lambda result: result),
        ({"by": "height", "height": 0.7}, lambda result: result.cut(0.7)),
        ({"by": "auto"}, lambda result: result.merge("auto")),
        ({"min_area": 0.05}, lambda result: result.clean(0.05)),
        ({"connected": True, "min_area": 0.001, "number": 5}, lambda result: result.clean(0.001).components().merge(5)),
    ],
)
def test_edits_are_calls_of_the_api_without_the_model(done, edited, edits, same):
    assert (
        not np.array_equal(expected := same(done[0].results[0]).labels, done[0].results[0].labels) or "number" in edits
    )
    edited.edit(**edits)
    assert np.array_equal(pixels(edited), expected)
    edited.edit(by="number", number=None, min_area=0.0, connected=False)
    assert np.array_equal(pixels(edited), done[0].results[0].labels)


def test_edits_that_cannot_be_are_refused_and_change_nothing(edited):
    for wrong in ({"number": 0}, {"height": 1.5}, {"min_area": float("nan")}):
        with pytest.raises(GensegError, match="not"):
            edited.edit(**wrong)
    assert edited.edits == Edits(by="number")


def test_selected_segments_are_merged_by_hand_into_the_largest_and_apart_again(edited):
    labels = edited.results[0].labels
    areas = np.bincount(labels.ravel())
    small, large = areas.argsort()[[0, -1]].tolist()
    edited.pick(0, [small, large])
    edited.join(0, [small, large, 99])
    assert np.array_equal(pixels(edited), np.where(labels == small, large, labels))
    assert edited.picked is None
    edited.edit(joined=())
    assert np.array_equal(pixels(edited), labels)


def test_a_new_result_keeps_the_switches_and_not_the_merges(edited):
    edited.edit(min_area=0.01, number=2)
    edited.join(0, [0, 1])
    edited._show(edited.requests, edited.results)
    assert edited.edits == Edits(by="number", min_area=0.01)


def test_details_of_what_was_merged_show_the_cluster_that_most_of_it_comes_from(edited):
    result = edited.results[0]
    edited.edit(number=3)
    merged = edited.shown[0].labels
    clusters = [np.bincount(result.labels[merged == label]).argmax() for label in range(3)]
    label = int(np.argmax(clusters))
    assert clusters[label] > 0
    edited.pick(0, [label])
    for picture in (grid_cells, score_map):
        assert as_data(picture(result, clusters[label])) in details(edited)


def test_a_picked_segment_shows_its_difference_map_and_its_cells(done):
    session, _ = done
    result = session.results[0]
    label = int(result.labels[0, 0])
    levels = np.asarray(score_map(result, label)).astype(int).sum(axis=2)
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
    assert np.array_equal(pixels(session, 1), second)
    session.edit(number=2)
    assert session.agreement()["adjusted Rand index"] == ari(*(result.labels for result in session.shown))
    assert session.reproduced()[0].count("--backend") == 2


def test_titles_distinguish_two_recipes_of_one_backend(session):
    list(session.segment([REQUEST, SegmentRequest("tiny", "plus", options=QUICK)]))
    assert [view["title"].partition(":")[0] for view in views(session)] == ["tiny", "tiny, plus"]


def test_many_segments_are_exact_in_label_maps_and_on_the_page(edited):
    labels = edited.results[0].labels + 290
    edited.shown = [replace(edited.results[0], labels=labels, colors=palette(300))]
    assert np.array_equal(pixels(edited), labels)
    assert np.array_equal(np.asarray(coded(labels * 9000)).astype(int) @ [1, 256, 65536], labels * 9000)


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


def test_downloads_are_what_the_api_makes(done, tmp_path):
    session, _ = done
    result = session.results[0]
    made = {kind: download(session, 0, kind, opacity=0.2, outlines=False) for kind in FILES}
    assert [name for name, _ in made.values()] == [f"photo.{kind}" for kind in FILES]
    overlay = result.overlay(0.2, outlines=False)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made["overlay.png"][1]))), np.asarray(overlay))
    assert not np.array_equal(pixels(session, 0, "overlay.png", opacity=0.2), np.asarray(overlay))
    assert np.array_equal(pixels(session, 0, "image.png"), result.image)
    (tmp_path / "photo.npz").write_bytes(made["npz"][1])
    assert np.array_equal(genseg.Segmentation.load(tmp_path / "photo.npz").labels, result.labels)
    for which, kind in ((1, "labels.png"), (0, "../run.py"), (-1, "labels.png")):
        with pytest.raises(GensegError, match="there is no such file"):
            download(session, which, kind)


def test_a_selection_is_cut_out_and_its_masks_are_listed(done):
    session, _ = done
    result = session.results[0]
    label = int(result.labels[0, 0])
    left, top, width, height = result.mask(label).bbox
    box = np.s_[top : top + height, left : left + width]
    cut = pixels(session, 0, "cutout.png", selected=[label])
    assert np.array_equal(cut[..., 3], 255 * (result.labels == label)[box])
    assert np.array_equal(cut[..., :3], result.image[box])
    name, masks = download(session, 0, "masks.json", selected=[label])
    assert name == "photo.masks.json"
    assert json.loads(masks)["annotations"] == [result.to_coco()["annotations"][label]]
    with pytest.raises(GensegError, match="click one first"):
        download(session, 0, "cutout.png")


def test_every_export_format_that_needs_no_classes_can_be_downloaded(done):
    pytest.importorskip("pyarrow")
    assert set(EXPORTS) - set(FORMATS) == {"cityscapes"}
    for kind in FORMATS:
        name, content = download(done[0], 0, kind)
        if kind == "huggingface":
            assert (name, content[:4]) == ("photo.huggingface.parquet", b"PAR1")
            continue
        assert name == f"photo.{kind}.zip"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert any(PurePath(file).stem == "photo" for file in archive.namelist())


@pytest.mark.parametrize("height", [None, 0.6])
def test_the_command_line_and_the_python_make_the_same_labels(session, height, tmp_path, monkeypatch):
    run = SegmentRequest("tiny", "fast", (*QUICK, "injection=false", "difference=two-sided", "blur=0.5"), 5)
    list(session.segment([run]))
    if height is not None:
        session.edit(by="height", height=height)
    expected = pixels(session)
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


@pytest.mark.parametrize(
    ("edits", "merges"),
    [
        ({"number": 2}, ["--merge", "2"]),
        ({"by": "auto"}, ["--merge", "auto"]),
        ({"min_area": 0.03, "connected": True, "number": 5}, None),
        ({"joined": (Joined(0, 1, (0, 1)), Joined(0, 2, (1, 2)))}, None),
    ],
)
def test_edits_are_reproduced_in_python_and_merges_on_the_command_line(edited, edits, merges, monkeypatch, tmp_path):
    edited.edit(**edits)
    command, python = edited.reproduced()
    words = shlex.split(command)
    assert words[words.index("--merge") :][:2] == merges if merges else command == ""
    whole = replace(edited.results[0], labels=edited.results[0].labels.copy())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(genseg, "segment", lambda *_, **__: whole)
    made: dict = {}
    exec(python, made)
    assert np.array_equal(made["seg"].labels, edited.shown[0].labels)
    assert not np.array_equal(made["seg"].labels, edited.results[0].labels)


def test_presets_are_explained_and_the_default_is_named(engine):
    assert set(PRESETS) == set(list_presets())
    engine.warm("tiny")
    assert recipe_help("tiny", None).startswith(f"{engine._loaded[1].preset}, the default of tiny: ")
    assert recipe_help("sd14", "fast").startswith("fast: ")


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
