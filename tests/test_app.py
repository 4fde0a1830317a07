import gc
import io
import json
import shlex
import subprocess
import sys
import threading
import tomllib
import weakref
import zlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import genseg
from genseg import GensegError
from genseg.app.coco import coco
from genseg.app.downloads import FILES, download
from genseg.app.engine import Engine
from genseg.app.options import CLUSTERS, ELSEWHERE, MOST, advanced, as_text, key_help
from genseg.app.pictures import difference_map, grid_cells, view
from genseg.app.run import Run
from genseg.app.session import Cancelled, Session
from genseg.app.shown import files, views
from genseg.app.taking import examples
from genseg.cli import app as command_line
from genseg.recipe import CHOICES, Recipe

QUICK = ("n_clusters=4", "size=64", "draws=1", "replay_steps=1", "n_init=1")
RUN = Run(options=QUICK, seed=3)
ROOT = Path(__file__).parents[1]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def labels_of(session: Session, which: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(download(session, which, "labels.png")[1])))


@pytest.fixture(scope="module")
def engine(sd_checkpoint):
    return Engine(max_pixels=100_000, models={"sd14": str(sd_checkpoint)}, device="cpu")


@pytest.fixture
def session(engine, photo):
    made = Session(engine)
    made.take(png(photo), "my photo's.png")
    return made


@pytest.fixture(scope="module")
def done(engine, photo):
    """A session with one result, which is not to be changed."""
    made = Session(engine)
    made.take(png(photo), "photo.png")
    told = list(made.segment([RUN]))
    return made, told


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
    given = as_text([(options[key], value) for key, value in typed.items()])
    assert given == ("size=64", "tap=up1.0.self", "blur=0.5", "injection=false")
    for key, most in MOST.items():
        assert as_text([(options[key], str(most))]) == (f"{key}={most}",)
        with pytest.raises(GensegError, match=f"{key} may be at most {most} here"):
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
    session, told = done
    expected = genseg.segment(photo, seed=3, n_clusters=4, size=64, draws=1, replay_steps=1, n_init=1)
    assert np.array_equal(session.results[0].labels, expected.labels)
    assert np.array_equal(labels_of(session), expected.labels)
    assert told[0].words in ("starting", "loading the model")
    assert all(0 <= status.part <= 1 for status in told)


def test_progress_has_words_a_part_and_the_time_left(engine, photo):
    session = Session(engine)
    session.take(png(photo), "photo.png")
    list(session.segment([RUN]))  # the measure of the next
    engine.estimate(RUN).told("encode", 0, 1)
    engine.estimate(RUN).told("modulate", 1, 4)
    session._now, session._told = RUN, ("modulate", 1, 4)
    status = session._status()
    assert status.words.startswith("perturbing clusters 1/4 masks, 0:0")
    assert status.words.endswith(" left")
    assert status.part == 0.25


def test_merging_relabels_without_the_model(session, engine, monkeypatch):
    list(session.segment([RUN]))
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
    assert levels[inside].mean() > 2 * levels[~inside].mean()
    cells = np.asarray(grid_cells(result, label)).astype(int)
    height, width = result.labels.shape
    rows, columns = result.grid_labels.shape
    at = tuple(np.ix_(*(((np.arange(n) + 0.5) * k / n).astype(int) for n, k in ((height, rows), (width, columns)))))
    faded = (0.25 * result.image + 191).astype(int)
    same = (cells == faded).all(axis=2)
    assert np.array_equal(same, result.grid_labels[at] != label)
    assert view(Image.fromarray(result.image), result)["areas"] == np.bincount(result.labels.ravel()).tolist()


def test_what_was_not_clicked_is_not_picked(session):
    session.pick(0, 0)
    assert session.picked is None
    list(session.segment([RUN]))
    for which, label in ((1, 0), (0, 99), (0, -1)):
        session.pick(which, label)
        assert session.picked is None


def _header_of(width: int, height: int) -> bytes:
    """A PNG that says it is large, and holds nothing."""
    chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + chunk + zlib.crc32(chunk).to_bytes(4, "big") + b"\0\0\0\0IDAT"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "x.png is empty; choose"),
        (b"no image", "x.png is not an image that Pillow reads; choose"),
        (_header_of(60_000, 60_000), "x.png has more than the 100000 pixels allowed here"),
        (_header_of(1000, 1000), "x.png has 1000x1000 pixels, over the limit of 100000 here"),
        (png(Image.new("RGB", (8, 8))), "at least 16 on each side"),
        (png(Image.effect_noise((64, 64), 50))[:500], "damaged or truncated"),
    ],
)
def test_an_image_that_cannot_be_used_leaves_the_one_before_it(session, content, why):
    before = session.image
    with pytest.raises(GensegError, match=why):
        session.take(content, "../../x.png")
    assert session.image is before
    assert session.name == "my photo's.png"
    list(session.segment([RUN]))
    assert session.results


def test_names_of_files_are_no_paths(session, photo):
    for given, kept in (
        ("../../etc/passwd", "passwd"),
        ("C:\\a\\b.png", "b.png"),
        ("a\n\x1b[1mb", "a[1mb"),
        ("", "image"),
    ):
        session.take(png(photo), given)
        assert session.name == kept


def test_a_cancelled_run_frees_its_memory_keeps_what_was_there_and_can_be_run_again(session, engine, monkeypatch):
    list(session.segment([RUN]))
    before, states = session.results, []
    encode = engine._loaded[1].encode

    def watched(*arguments):
        state = encode(*arguments)
        states.append(weakref.ref(state))
        return state

    slow = Run(options=("n_clusters=20", "size=64", "draws=1", "n_init=1", "batch_size=1", "num_inference_steps=500"))
    with monkeypatch.context() as patched:
        patched.setattr(engine._loaded[1], "encode", watched)
        told = iter(session.segment([slow]))
        while "perturbing" not in next(told).words:
            pass
        assert states[0]() is not None
        session.cancel()
        with pytest.raises(Cancelled):
            list(told)
    assert states[0]() is None
    assert session.results is before
    list(session.segment([RUN]))
    assert np.array_equal(session.results[0].labels, before[0].labels)


def test_who_stops_listening_cancels(session):
    running = session.segment([RUN])
    next(running)
    running.close()
    assert session.results == []
    list(session.segment([RUN]))
    assert len(session.results) == 1


def test_a_new_image_ends_the_run_over_the_old(session, photo):
    running = session.segment([RUN])
    next(running)
    session.take(png(photo.rotate(90, expand=True)), "turned.png")
    with pytest.raises(Cancelled):
        list(running)
    assert session.results == []
    assert session.image.size == (64, 96)


def test_a_closed_session_holds_nothing(engine, photo):
    session = Session(engine)
    session.take(png(photo), "photo.png")
    list(session.segment([RUN]))
    result = weakref.ref(session.results[0])
    session.close()
    gc.collect()
    assert result() is None
    assert session.image is None


def test_what_a_run_cannot_do_is_said_and_the_next_run_works(session):
    for run, why in (
        (Run("no-such"), "unknown backend 'no-such'"),
        (Run(options=("blur=-1",)), "blur must be a finite number"),
        (Run(options=("tap=nowhere",)), "nowhere"),
        (Run(recipe="slow"), "unknown recipe 'slow'"),
    ):
        with pytest.raises(GensegError, match=why):
            list(session.segment([run]))
    with pytest.raises(GensegError, match="there is no image yet"):
        list(Session(session.engine).segment([RUN]))
    list(session.segment([RUN]))
    assert session.results


def test_an_error_that_nobody_foresaw_is_told_and_logged(session, engine, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_backend", lambda _: 1 / 0)
        with pytest.raises(GensegError, match="the run failed \\(ZeroDivisionError\\)"):
            list(session.segment([RUN]))
    assert "Traceback" in caplog.text
    list(session.segment([RUN]))
    assert session.results


def test_one_runs_one_waits_and_the_third_is_sent_away(engine, photo):
    short = Engine(queue=1, device="cpu")
    short._loaded = engine._loaded or None
    begun, go_on, waits = threading.Event(), threading.Event(), threading.Event()
    ends: list[str] = []

    def first(stage, *_):
        if stage == "load":
            begun.set()
            go_on.wait(20)

    def second(stage, *_):
        if stage == "wait":
            waits.set()
        else:
            ends.append(stage)

    threads = [threading.Thread(target=short.segment, args=(photo, RUN, first))]
    threads[0].start()
    assert begun.wait(20)
    threads.append(threading.Thread(target=short.segment, args=(photo, RUN, second)))
    threads[1].start()
    assert waits.wait(20)
    with pytest.raises(GensegError, match="2 runs are waiting or running"):
        short.segment(photo, RUN, lambda *_: None)
    assert ends == []
    go_on.set()
    for thread in threads:
        thread.join()
    assert ends[-1] == "labels"
    assert short._line == []


def test_a_run_that_waits_can_be_cancelled(session, engine):
    with engine._turn(lambda *_: None):
        told = session.segment([RUN])
        while next(told).words == "starting":
            pass
        assert next(told).words == "waiting, 1 ahead"
        session.cancel()
        with pytest.raises(Cancelled):
            list(told)
    assert engine._line == []


def test_two_backends_side_by_side_agree_as_the_api_says_with_one_model_in_memory(session, engine):
    from genseg.evaluation.agreement import ari, boundary_f, matched_iou

    other = Run("sd14", options=QUICK)
    list(session.segment([RUN]))
    tiny = weakref.ref(engine._loaded[1])
    list(session.segment([RUN, other]))
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


def test_two_recipes_of_one_backend_are_told_apart(session):
    list(session.segment([RUN, Run("tiny", "plus", options=QUICK)]))
    assert "<span>tiny:</span>" in files(session)
    assert "<span>tiny, plus:</span>" in files(session)
    assert [view["title"].partition(":")[0] for view in views(session)] == ["tiny", "tiny, plus"]


def test_coco_holds_the_segments_exactly(done):
    masks = pytest.importorskip("pycocotools.mask")
    result = done[0].results[0]
    found = json.loads(download(done[0], 0, "coco.json")[1])
    assert found == coco(result, "photo.png")
    assert found["images"] == [{"id": 1, "file_name": "photo.png", "width": 96, "height": 64}]
    covered = np.zeros_like(result.labels)
    for one in found["annotations"]:
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
    run = Run("tiny", "fast", (*QUICK, "injection=false", "difference=two-sided", "blur=0.5"), 5)
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


def test_model_device_and_dtype_are_told(engine):
    run = engine.complete(Run("sd14", options=("tap=it's",)))
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


def test_help_does_not_wait_for_gradio():
    code = "import sys; from typer.testing import CliRunner; from genseg.cli import app; "
    code += "out = CliRunner().invoke(app, ['app', '--help']); assert '--max-upload-mb' in out.output, out.output; "
    assert _python(code + "assert not {'gradio', 'torch', 'starlette'} & sys.modules.keys()").returncode == 0


def test_without_the_extra_one_sentence_says_what_to_install():
    outcome = _python(
        "import sys; sys.modules['gradio'] = None; sys.argv = ['genseg', 'app']; from genseg.cli import main; main()"
    )
    assert outcome.returncode == 2
    assert outcome.stderr == "genseg: the app needs the package 'gradio'; run: pip install 'genseg[app]'\n"
