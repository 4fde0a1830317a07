"""What one tab holds and does: an image, its segmentations, the segment that was clicked; no page, no files."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from genseg.app.engine import LOAD, WAIT, Engine
from genseg.app.request import Run
from genseg.app.uploads import examples, plain, read
from genseg.errors import GensegError
from genseg.progress import counted, left_in_words

if TYPE_CHECKING:
    from PIL import Image

    from genseg.segmentation import Segmentation
if TYPE_CHECKING:
    pass


STAGES = {
    LOAD: "loading the model",
    "encode": "encoding the image",
    "features": "reading features",
    "cluster": "clustering features",
    "modulate": "perturbing clusters",
    "decode": "taking differences",
    "labels": "giving pixels to clusters",
}

SESSIONS = 64
"""Most tabs that are remembered; the oldest goes first. Each holds an image and its difference maps."""


class Cancelled(Exception):  # noqa: N818  # no error: someone changed their mind
    """Ends a run from within, by way of its progress."""


class Status(NamedTuple):
    """How far a run is: in words, and as a part of its stage, in [0, 1]."""

    words: str
    part: float = 0.0


class Session:
    """One tab's image and what was made of it. Its methods may be called from any thread.

    Args:
        engine: What runs models, shared with all other sessions.
        address: The visitor's network address.

    Attributes:
        token: Names this session where a name is asked for, and cannot be guessed.
        name: The image's file name.
        image: The image, upright and in RGB; None before there is one.
        runs: What `results` came from.
        results: The segmentations, in the order asked for.
        merged: How many segments each is shown with at most; None for all.
        picked: Which result and which of its labels was clicked; None for none.
    """

    def __init__(self, engine: Engine, address: str = "") -> None:
        self.engine = engine
        self.address = address
        self.token = secrets.token_urlsafe(24)
        self._lock, self._cancelled = threading.Lock(), threading.Event()
        self._told: tuple[str, int, int] = (WAIT, 0, 0)
        self._now: Run | None = None  # of those that are running
        self.name = ""
        self.image: Image.Image | None = None
        self.runs: tuple[Run, ...] = ()
        self.results: list[Segmentation] = []
        self.merged: int | None = None
        self.picked: tuple[int, int] | None = None

    def take(self, content: bytes, name: str) -> None:
        """Take the bytes of an image file as the image; what was running ends.

        Raises:
            GensegError: If it cannot be segmented, or is larger than allowed; the image before it is then kept.
        """
        name, image = read(content, name, self.engine.max_pixels)
        self.cancel()
        self._forget(name, image)

    def take_example(self, name: str) -> None:
        """Take one of the example photos.

        Raises:
            GensegError: For a name that is not among them.
        """
        found = {path.name: path for path in examples()}
        if name not in found:
            raise GensegError(f"there is no example {plain(name)}; choose one of {', '.join(found)}")
        self.take(found[name].read_bytes(), name)

    def segment(self, runs: Sequence[Run]) -> Iterator[Status]:
        """Segment the image by each run in turn, telling how far it is five times a second.

        The results take the place of the last ones at the end, all together. Who stops listening cancels.

        Raises:
            GensegError: If there is no image, a run is going, or one cannot be done; the message says what to do.
            Cancelled: If `cancel`, `take` or `close` was called meanwhile.
        """
        if self.image is None:
            raise GensegError("there is no image yet; upload or paste one, or pick an example")
        if not self._lock.acquire(blocking=False):
            raise GensegError("a run is going already; cancel it first, or wait")
        try:
            self._cancelled.clear()
            image, self._told = self.image, (WAIT, 0, 0)
            with ThreadPoolExecutor(1, thread_name_prefix="genseg-run") as worker:
                future = worker.submit(self._run, image, runs)
                try:
                    while not future.done():
                        yield self._status()
                        wait([future], timeout=0.2)
                finally:
                    if not future.done():
                        self._cancelled.set()
            done = future.result()
            if isinstance(done, str):
                raise GensegError(done)
            if done is None or self._cancelled.is_set():
                raise Cancelled
            self.runs, self.results = tuple(self.engine.complete(run) for run in runs), _alike(done)
            self.merged, self.picked = None, None
        finally:
            self._lock.release()

    def cancel(self) -> None:
        """End what is running as soon as it next tells how far it is."""
        self._cancelled.set()

    def close(self) -> None:
        """Cancel and let go of everything."""
        self.cancel()
        self._forget("", None)

    def merge(self, n_segments: int) -> None:
        """Show at most so many segments; no model runs.

        Raises:
            GensegError: For a number below 1.
        """
        if n_segments < 1:
            raise GensegError(f"segments can be merged into 1 or more, not {n_segments}")
        self.merged = None if n_segments >= self.most_segments else n_segments
        self.picked = None

    @property
    def most_segments(self) -> int:
        """The number of segments of the result that has most; 1 without one."""
        return max((result.n_segments for result in self.results), default=1)

    @property
    def shown(self) -> list[Segmentation]:
        """The results, merged as asked for."""
        return [
            result if self.merged is None else result.merge(min(self.merged, result.n_segments))
            for result in self.results
        ]

    def pick(self, which: int, label: int) -> None:
        """Take note of the segment that was clicked."""
        there = which < len(self.results) and 0 <= label < len(self.shown[which].colors)
        self.picked = (which, label) if there else None

    def agreement(self) -> dict[str, float]:
        """How much the two results shown agree; empty unless there are two."""
        if len(self.results) != 2:
            return {}
        from genseg.evaluation.agreement import ari, boundary_f, matched_iou

        first, second = (result.labels for result in self.shown)
        return {
            "adjusted Rand index": ari(first, second),
            "matched IoU": matched_iou(first, second),
            "boundary F": boundary_f(first, second),
        }

    def reproduced(self) -> tuple[str, str]:
        """The command lines and the Python that make the results as they are shown; empty without any."""
        runs = [(run, self._merged_into(which)) for which, run in enumerate(self.runs)]
        return (
            "\n".join(run.command_line(self.name, merged) for run, merged in runs),
            "\n".join(run.python(self.name, merged) for run, merged in runs),
        )

    def _merged_into(self, which: int) -> int | None:
        return None if self.merged is None else min(self.merged, self.results[which].n_segments)

    def _forget(self, name: str, image: Image.Image | None) -> None:
        self.name, self.image = name, image
        self.runs, self.results, self.merged, self.picked = (), [], None, None

    def _run(self, image: Image.Image, runs: Sequence[Run]) -> list[Segmentation] | str | None:
        """The results, or why there are none in a sentence, or None if cancelled.

        Nothing is raised from here: a traceback would keep alive all that its frames hold.
        """
        try:
            results = []
            for self._now in runs:
                results.append(self.engine.segment(image, self._now, self._heard))
            return results
        except Cancelled:
            return None
        except GensegError as error:
            return str(error)
        except (MemoryError, RuntimeError) as error:
            from genseg.errors import is_out_of_memory

            if is_out_of_memory(error):
                return "the machine is out of memory; choose a smaller size or model"
            return _unforeseen(error)
        except Exception as error:  # a backend may raise anything, and the app goes on
            return _unforeseen(error)

    def _heard(self, stage: str, done: int, total: int) -> None:
        self._told = stage, done, total
        if self._cancelled.is_set():
            raise Cancelled

    def _status(self) -> Status:
        stage, done, total = self._told
        if stage == WAIT:
            return Status(f"waiting, {total} ahead" if total else "starting")
        words = f"{STAGES.get(stage, stage)} {counted(stage, done, total)}".rstrip()
        left = "" if stage == LOAD or self._now is None else left_in_words(self.engine.estimate(self._now))
        return Status(f"{words}, {left}" if left else words, done / total)


def _alike(results: list[Segmentation]) -> list[Segmentation]:
    """The results, the segments of all coloured like those of the first that they match."""
    from genseg.evaluation.agreement import matched_colors

    first, n = results[0].labels, max(len(result.colors) for result in results)
    return [results[0]] + [
        replace(result, colors=matched_colors(result.labels, first, n)[: len(result.colors)]) for result in results[1:]
    ]


def _unforeseen(error: Exception) -> str:
    logging.getLogger("genseg.app").exception("a run failed", exc_info=error)
    return f"the run failed ({type(error).__name__}); the terminal of genseg app says more"


class Sessions:
    """The tabs there are, by the key that Gradio knows them by; `named` finds them by their own token."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: str, address: str = "") -> Session:
        """The session of a tab at a network address; a new one for a new tab."""
        with self._lock:
            session = self._open.setdefault(key, Session(self._engine, address))
            self._open.move_to_end(key)
            surplus = self._open.pop(self._most_dispensable()) if len(self._open) > SESSIONS else None
        if surplus is not None:
            surplus.close()
        return session

    def _most_dispensable(self) -> str:
        """The oldest tab of the address that has most, so that no address takes the tabs of others."""
        ((crowded, _),) = Counter(session.address for session in self._open.values()).most_common(1)
        return next(key for key, session in self._open.items() if session.address == crowded)

    def named(self, token: str) -> Session | None:
        """The session of this token."""
        with self._lock:
            return next((session for session in self._open.values() if session.token == token), None)

    def end(self, key: str) -> None:
        """Close the session of a tab that was closed."""
        with self._lock:
            session = self._open.pop(key, None)
        if session is not None:
            session.close()

    def __len__(self) -> int:
        return len(self._open)
