"""The app below the page: runs, edits and pictures."""

import gc
import subprocess
import sys
import tomllib
import weakref
from dataclasses import replace

import numpy as np
import pytest
from app_parts import QUICK, REQUEST, ROOT, done, edited, engine, pixels, png, session  # noqa: F401
from PIL import Image

import genseg
from genseg import GensegError
from genseg.app.downloads import download
from genseg.app.edits import Edits
from genseg.app.photos import examples
from genseg.app.render import as_data, coded, details, grid_cells, score_map, view, views
from genseg.app.session import Session
from genseg.display.palette import palette
from genseg.web.request import SegmentRequest


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
