"""The estimate on made-up timings, and the bar on real images."""

import contextlib
import os
import pty
import re
import threading
from collections.abc import Iterator
from functools import partialmethod

import pytest
from tqdm.auto import tqdm

import genseg
from genseg import GensegError, Segmenter
from genseg.cli import app
from genseg.cli.progress import Bars
from genseg.progress import TimeLeft, counted, left_in_words, minutes

QUICK = {"n_init": 1, "n_clusters": 4, "size": 32, "margin": 0, "batch_size": 2, "modulate": True}

MASKS = 25
LINEAR = [0.4] * MASKS  # seconds that modulating each mask takes
WARMING = [10.0, *LINEAR[1:]]
UNEVEN = [0.1] * 9 + [0.6] * 16  # a first timestep computed from the point on
BEFORE = {"encode": 0.5, "features": 1.0, "cluster": 1.0}
AFTER = {"decode": 2.0, "labels": 0.5}
LINEAR_IMAGE = sum(BEFORE.values()) + sum(LINEAR) + sum(AFTER.values())


class Images:
    """Tells an estimate of images, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.estimate = TimeLeft(lambda: self.now)

    def stage(self, name: str, parts: list[float]) -> Iterator[int]:
        """Tell of a stage whose parts take so many seconds; yields how many are done."""
        self.estimate.report(name, 0, len(parts))
        for done, seconds in enumerate(parts, start=1):
            self.now += seconds
            self.estimate.report(name, done, len(parts))
            yield done
        if len(parts) > 1:  # the meter has told of the last part, the stage tells that it has ended
            self.estimate.report(name, len(parts), len(parts))

    def steps(self, masks: list[float]) -> Iterator[tuple[float, float]]:
        """Run through an image; yields, after each mask, which part is done and the seconds truly left."""
        for name, seconds in BEFORE.items():
            list(self.stage(name, [seconds]))
        for done in self.stage("modulate", masks):
            yield done / len(masks), sum(masks[done:]) + sum(AFTER.values())
        for name, seconds in AFTER.items():
            list(self.stage(name, [seconds]))

    def image(self, masks: list[float]) -> None:
        list(self.steps(masks))


@pytest.fixture
def images() -> Images:
    return Images()


@pytest.mark.parametrize(
    ("before", "now", "tolerance"),
    [
        (LINEAR, LINEAR, 1e-6),
        (UNEVEN, UNEVEN, 1e-6),
        (LINEAR, LINEAR[:12], 1e-6),  # fewer masks
        (WARMING, LINEAR, 0.01),
        (LINEAR, [2 * seconds for seconds in LINEAR], 0.1),  # a slower machine
        (LINEAR, [seconds / 2 for seconds in LINEAR], 0.15),
    ],
    ids=["linear", "uneven", "fewer", "warm by now", "slower", "faster"],
)
def test_on_the_second_image_the_whole_is_known_at_half_of_modulation(images, before, now, tolerance):
    images.image(before)
    for part, true in images.steps(now):
        if part >= 0.48:
            assert images.estimate.left() == pytest.approx(true, rel=tolerance)


def test_on_the_second_image_the_whole_is_known_from_the_beginning(images):
    images.image(LINEAR)
    images.estimate.report("encode", 0, 1)
    assert images.estimate.left() == pytest.approx(LINEAR_IMAGE)
    assert left_in_words(images.estimate) == "0:15 left"


@pytest.mark.parametrize("masks", [LINEAR, WARMING], ids=["linear", "warming up"])
def test_on_the_first_image_the_stage_alone_is_known_from_its_second_step_on(images, masks):
    for done, (_, true) in enumerate(images.steps(masks), start=1):
        assert images.estimate.left() is None
        known = images.estimate.stage_left()
        assert known is None if done == 1 else known == pytest.approx(true - sum(AFTER.values()))
    assert left_in_words(images.estimate) == "0:00 left"


def test_words_say_when_the_time_is_that_of_the_stage(images):
    assert left_in_words(images.estimate) == ""
    parts = images.stage("modulate", LINEAR)
    next(parts)
    assert left_in_words(images.estimate) == ""
    next(parts)
    assert left_in_words(images.estimate) == "0:09 left in this stage"


def test_on_the_first_image_a_step_that_is_overdue_shows_that_the_pace_has_changed(images):
    parts = images.stage("modulate", LINEAR)
    next(parts), next(parts)
    images.now += 0.3
    assert images.estimate.stage_left() == pytest.approx(23 * 0.4 - 0.3)
    images.now += 0.7
    assert images.estimate.stage_left() == pytest.approx(23 * 1.0 - 1.0)


def test_the_time_counts_down_between_steps_and_stays_at_zero(images):
    images.image(LINEAR)
    steps = images.steps(LINEAR)
    for _ in range(10):
        _, true = next(steps)
    images.now += 0.3
    assert images.estimate.left() == pytest.approx(true - 0.3)
    images.now += 1000
    assert images.estimate.stage_left() == 0
    assert images.estimate.left() == pytest.approx(sum(AFTER.values()))


def test_further_images_take_as_long_as_the_last_and_what_lay_between(images):
    images.image(WARMING)
    images.now += 3
    images.image(LINEAR)
    assert images.estimate.left(2) == pytest.approx(2 * (LINEAR_IMAGE + 3))
    images.now += 3
    _, true = next(images.steps(LINEAR))
    assert images.estimate.left(4) == pytest.approx(true + 4 * (LINEAR_IMAGE + 3))


def test_an_image_that_failed_is_no_measure(images):
    images.image(LINEAR)
    next(images.steps(WARMING))  # fails after its first mask
    images.now += 50
    images.estimate.report("encode", 0, 1)
    assert images.estimate.left(1) == pytest.approx(2 * LINEAR_IMAGE)


def test_the_bar_over_images_counts_those_that_have_not_begun(images):
    bars, left = Bars(3), []
    bars._estimate = images.estimate
    for _ in range(3):
        bars.stage("encode", 0, 1)
        left.append(bars._all_left())
        images.now += 60
        for stage in ("encode", "labels"):
            bars.stage(stage, 1, 1)
        bars.next_image("done")
        left.append(bars._all_left())
    assert left == ["", "2:00 left", "2:00 left", "1:00 left", "1:00 left", "0:00 left"]


def test_counts_and_minutes():
    assert counted("modulate", 7, 25) == "7/25 masks"
    assert counted("features", 4, 100) == "4/100 draws"
    assert counted("load", 1, 3) == "1/3"
    assert counted("cluster", 0, 1) == ""
    assert [minutes(s) for s in (0, 6.6, 59.7, 750, 3723)] == ["0:00", "0:07", "1:00", "12:30", "1:02:03"]


@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_a_bar_shows_stage_count_and_time_left(recipe, tiny, photo, capsys):
    segmenter = Segmenter(tiny, recipe, progress=True, draws=4, t_m=41, **QUICK)
    segmenter(photo)
    first = capsys.readouterr().err
    for stage in ("encode", "features 2/4 draws", "cluster", "modulate 2/4 masks", "decode 4/4 masks", "labels"):
        assert f"| {stage}" in first, stage
    assert " 50%|" in first
    assert re.search(r"modulate 3/4 masks, 0:0\d left in this stage", first)  # more than a second on a busy machine
    segmenter(photo)
    second = capsys.readouterr().err
    assert re.search(r"modulate 2/4 masks, 0:0\d left", second)
    assert "in this stage" not in second
    assert second.rstrip(" ").endswith("\r")  # gone when the image is finished


def test_progress_of_segment_is_a_bar_a_function_or_nothing(tiny, photo, capsys):
    told = []
    for progress, shows in ((True, True), (False, False), (None, False), (lambda *step: told.append(step), False)):
        genseg.segment(photo, tiny, progress=progress, draws=1, replay_steps=1, **QUICK)
        assert ("modulate 4/4 masks" in capsys.readouterr().err) == shows
    assert ("modulate", 4, 4) in told


def test_the_bar_of_an_image_that_failed_is_used_again(tiny, photo, capsys):
    segmenter = Segmenter(tiny, progress=True, draws=1, replay_steps=1, **QUICK | {"n_clusters": 99})
    for _ in range(2):
        with pytest.raises(GensegError, match="n_clusters=99"):
            segmenter(photo)
    assert "cluster" in capsys.readouterr().err
    assert len(tqdm._instances) == 1
    segmenter.progress("labels", 1, 1)
    assert len(tqdm._instances) == 0


def test_a_terminal_shows_stages_counts_and_time_left(photo, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        photo.save(tmp_path / name)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    drawn = partialmethod(Bars.update, refresh=True)  # at every step instead of ten times a second
    monkeypatch.setattr(Bars, "update", drawn)
    master, slave = pty.openpty()
    shown = []
    reader = threading.Thread(target=lambda: shown.extend(iter(lambda: _read(master), b"")))
    reader.start()
    with os.fdopen(slave, "w") as terminal, contextlib.redirect_stdout(terminal):
        options = [f"{key}={value}" for key, value in (QUICK | {"n_clusters": 8}).items()]
        options += ["draws=1", "replay_steps=1"]
        app(["segment", str(tmp_path), "-o", str(tmp_path / "out"), *options], standalone_mode=False)
    reader.join()
    os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(shown).decode())
    first, second = text.split("a.png: ", maxsplit=1)
    assert re.search(r"images +━+.* 0/2 *\s", first)
    assert re.search(r"modulate +[━╸╺]+ +\d+/\d masks +\d+:\d\d left in this stage\s", first)
    assert not re.search(r"modulate .*:\d\d left(?! in this stage)", first)  # of the whole nothing is known yet
    assert re.search(r"images +━+.* 1/2 +\d+:\d\d left\s", second)
    assert re.search(r"modulate +[━╸╺]+ +\d+/\d masks +\d+:\d\d left\s", second)
    assert "in this stage" not in second
    for stage in ("load", "encode", "features", "cluster", "modulate", "labels"):
        assert re.search(rf"\b{stage} ", text), stage
    assert "b.png: " in text


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # what Linux says where a terminal has been closed
        return b""
