"""A tab's images and runs: refused, cancelled, ended, queued and closed."""

import gc
import threading
import weakref
import zlib

import numpy as np
import pytest
from app_parts import REQUEST, engine, png, session  # noqa: F401
from PIL import Image

from genseg import GensegError
from genseg.app.session import Cancelled, Session
from genseg.app.sessions import SESSIONS, Sessions
from genseg.web.engine import Engine
from genseg.web.request import SegmentRequest


def test_what_was_not_clicked_is_not_picked(session):
    session.pick(0, [0])
    assert session.picked is None
    list(session.segment([REQUEST]))
    for which, label in ((1, 0), (0, 99), (0, -1)):
        session.pick(which, [label])
        assert session.picked is None
    session.pick(0, [99, 1, 1])
    assert session.picked == (0, (1,))


def _header_of(width: int, height: int) -> bytes:
    """A PNG that says it is large, and holds nothing."""
    chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + chunk + zlib.crc32(chunk).to_bytes(4, "big") + b"\0\0\0\0IDAT"


def test_images_that_cannot_be_used_leave_the_one_before_them(session):
    before = session.image
    for content, why in (
        (b"", "x.png is empty; give"),
        (b"no image", "x.png is not an image that genseg reads; give"),
        (_header_of(60_000, 60_000), "x.png has more than 200000 pixels, over the limit"),
        (_header_of(1000, 1000), "x.png has 1000x1000 pixels, over the limit of 100000; scale it down"),
        (png(Image.new("RGB", (8, 8))), "at least 16 on each side"),
        (png(Image.effect_noise((64, 64), 50))[:500], "damaged or truncated"),
    ):
        with pytest.raises(GensegError, match=why):
            session.take(content, "../../x.png")
        assert session.image is before
        assert session.name == "my photo's.png"
    list(session.segment([REQUEST]))
    assert session.results


def test_names_of_files_are_no_paths(session, photo):
    for name, safe in (
        ("../../etc/passwd", "passwd"),
        ("C:\\a\\b.png", "b.png"),
        ("a\n\x1b[1mb", "a[1mb"),
        ("", "image"),
    ):
        session.take(png(photo), name)
        assert session.name == safe


def test_a_cancelled_run_frees_its_memory_keeps_what_was_there_and_can_be_run_again(session, engine, monkeypatch):
    list(session.segment([REQUEST]))
    before, states = session.results, []
    encode = engine._loaded[1].encode

    def watched(*arguments):
        state = encode(*arguments)
        states.append(weakref.ref(state))
        return state

    slow = SegmentRequest(
        options=(
            "n_clusters=20",
            "size=64",
            "draws=1",
            "n_init=1",
            "batch_size=1",
            "num_inference_steps=500",
            "modulate=true",
        )
    )
    with monkeypatch.context() as patched:
        patched.setattr(engine._loaded[1], "encode", watched)
        statuses = iter(session.segment([slow]))
        while "perturbing" not in next(statuses).words:
            pass
        assert states[0]() is not None
        session.cancel()
        with pytest.raises(Cancelled):
            list(statuses)
    assert states[0]() is None
    assert session.results is before
    list(session.segment([REQUEST]))
    assert np.array_equal(session.results[0].labels, before[0].labels)


def test_who_stops_listening_cancels(session):
    running = session.segment([REQUEST])
    next(running)
    running.close()
    assert session.results == []
    list(session.segment([REQUEST]))
    assert len(session.results) == 1


def test_a_new_image_ends_the_run_over_the_old(session, photo):
    running = session.segment([REQUEST])
    next(running)
    session.take(png(photo.rotate(90, expand=True)), "turned.png")
    with pytest.raises(Cancelled):
        list(running)
    assert session.results == []
    assert session.image.size == (64, 96)


def test_a_closed_session_holds_nothing(engine, photo):
    session = Session(engine)
    session.take(png(photo), "photo.png")
    list(session.segment([REQUEST]))
    result = weakref.ref(session.results[0])
    session.close()
    gc.collect()
    assert result() is None
    assert session.image is None


def test_what_a_run_cannot_do_is_said_and_the_next_run_works(session):
    for run, why in (
        (SegmentRequest("no-such"), "unknown backend 'no-such'"),
        (SegmentRequest(options=("reach=999999999",)), "reach must be a whole number from 0 to"),
        (SegmentRequest(options=("tap=nowhere",)), "nowhere"),
        (SegmentRequest(recipe="slow"), "unknown recipe 'slow'"),
    ):
        with pytest.raises(GensegError, match=why):
            list(session.segment([run]))
    with pytest.raises(GensegError, match="there is no image yet"):
        list(Session(session.engine).segment([REQUEST]))
    list(session.segment([REQUEST]))
    assert session.results


def test_old_tabs_make_room_and_no_address_takes_the_tabs_of_others(engine):
    sessions = Sessions(engine)
    first, other = sessions.of("0", "192.0.2.1"), sessions.of("1", "192.0.2.2")
    for key in range(2, 3 * SESSIONS):
        sessions.of(str(key), "192.0.2.2")
    assert len(sessions) == SESSIONS
    assert sessions.named(first.token) is first
    assert sessions.named(other.token) is None


def test_an_unexpected_error_is_reported_and_logged(session, engine, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_backend", lambda _: 1 / 0)
        with pytest.raises(GensegError, match="the run failed \\(ZeroDivisionError\\)"):
            list(session.segment([REQUEST]))
    assert "Traceback" in caplog.text
    list(session.segment([REQUEST]))
    assert session.results


def test_one_runs_one_waits_and_the_third_is_sent_away(engine, photo):
    short = Engine(queue=1, device="cpu")
    short._loaded = engine._loaded or None
    begun, go_on, waits = threading.Event(), threading.Event(), threading.Event()
    ends: list[str] = []

    def first(*_):
        if not begun.is_set():
            begun.set()
            go_on.wait(20)

    def second(stage, *_):
        if stage == "wait":
            waits.set()
        else:
            ends.append(stage)

    threads = [threading.Thread(target=short.segment, args=(photo, REQUEST, first))]
    threads[0].start()
    assert begun.wait(20)
    threads.append(threading.Thread(target=short.segment, args=(photo, REQUEST, second)))
    threads[1].start()
    assert waits.wait(20)
    with pytest.raises(GensegError, match="2 runs are waiting or running"):
        short.segment(photo, REQUEST, lambda *_: None)
    assert ends == []
    go_on.set()
    for thread in threads:
        thread.join()
    assert ends[-1] == "labels"
    assert short._queue == []


def test_a_run_that_waits_can_be_cancelled(session, engine):
    with engine._queue_slot(lambda *_: None):
        statuses = session.segment([REQUEST])
        while next(statuses).words == "starting":
            pass
        assert next(statuses).words == "waiting, 1 ahead"
        session.cancel()
        with pytest.raises(Cancelled):
            list(statuses)
    assert engine._queue == []
