"""The state of one tab, without page or files: an image, its segmentations, the segment that was clicked."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from genseg.app.photos import examples
from genseg.errors import GensegError
from genseg.progress import counted, left_in_words
from genseg.web.engine import LOAD, WAIT, Engine
from genseg.web.request import SegmentRequest
from genseg.web.uploads import read_upload, safe_name

if TYPE_CHECKING:
    from PIL import Image

    from genseg.segmentation import Segmentation

STAGES = {
    LOAD: "loading the model",
    "encode": "encoding the image",
    "features": "reading features",
    "cluster": "clustering features",
    "modulate": "perturbing clusters",
    "decode": "taking differences",
    "labels": "assigning pixels to clusters",
}

SESSIONS = 64
"""Upper bound of open tabs, each of which holds an image and its difference maps."""


class Cancelled(Exception):  # noqa: N818  # no error: someone changed their mind
    """Raised by a progress callback to end a run."""


class Status(NamedTuple):
    """Progress of a run: in words, and as the fraction of its stage that is done, in [0, 1]."""

    words: str
    fraction: float = 0.0


class Session:
    """One tab's image and results. Its methods may be called from any thread.

    Args:
        engine: Runs the models; shared by all sessions.
        address: The visitor's network address.

    Attributes:
        token: Secret part of the tab's addresses for uploads and downloads.
        name: The image's file name.
        image: The image, upright and in RGB; None before there is one.
        requests: The requests that `results` came from.
        results: The segmentations, in the order of `requests`.
        merged: Upper bound of the segments that each is shown with; None for all.
        picked: Index of the result and label of the segment that was clicked; None without one.
    """

    def __init__(self, engine: Engine, address: str = "") -> None:
        self.engine = engine
        self.address = address
        self.token = secrets.token_urlsafe(24)
        self._lock, self._cancelled = threading.Lock(), threading.Event()
        self._progress: tuple[str, int, int] = (WAIT, 0, 0)
        self._running: SegmentRequest | None = None
        self.name = ""
        self.image: Image.Image | None = None
        self.requests: tuple[SegmentRequest, ...] = ()
        self.results: list[Segmentation] = []
        self.merged: int | None = None
        self.picked: tuple[int, int] | None = None

    def take(self, content: bytes, name: str) -> None:
        """Take the bytes of an image file as the image; a running segmentation ends.

        Raises:
            GensegError: If it cannot be segmented, or is larger than allowed; the image before it then stays.
        """
        name, image = read_upload(content, name, self.engine.max_pixels)
        self.cancel()
        self._forget(name, image)

    def take_example(self, name: str) -> None:
        """Take one of the example photos.

        Raises:
            GensegError: For a name that is not among them.
        """
        paths = {path.name: path for path in examples()}
        if name not in paths:
            raise GensegError(f"there is no example {safe_name(name)}; choose one of {', '.join(paths)}")
        self.take(paths[name].read_bytes(), name)

    def segment(self, requests: Sequence[SegmentRequest]) -> Iterator[Status]:
        """Segment the image by each request in turn, and yield the progress five times a second.

        The results replace the previous ones at the end, all together. Closing the iterator cancels.

        Raises:
            GensegError: If there is no image, another run is going, or one fails; the message says what to do.
            Cancelled: If `cancel`, `take` or `close` was called meanwhile.
        """
        if self.image is None:
            raise GensegError("there is no image yet; upload or paste one, or pick an example")
        if not self._lock.acquire(blocking=False):
            raise GensegError("a run is going already; cancel it first, or wait")
        try:
            self._cancelled.clear()
            image, self._progress = self.image, (WAIT, 0, 0)
            with ThreadPoolExecutor(1, thread_name_prefix="genseg-run") as worker:
                future = worker.submit(self._run, image, requests)
                try:
                    while not future.done():
                        yield self._status()
                        wait([future], timeout=0.2)
                finally:
                    if not future.done():
                        self._cancelled.set()
            outcome = future.result()
            if isinstance(outcome, str):
                raise GensegError(outcome)
            if outcome is None or self._cancelled.is_set():
                raise Cancelled
            self.requests = tuple(self.engine.complete(request) for request in requests)
            self.results = _colored_alike(outcome)
            self.merged, self.picked = None, None
        finally:
            self._lock.release()

    def cancel(self) -> None:
        """End a running segmentation at its next progress callback."""
        self._cancelled.set()

    def close(self) -> None:
        """Cancel, and free the image and the results."""
        self.cancel()
        self._forget("", None)

    def merge(self, n_segments: int) -> None:
        """Show at most ``n_segments`` segments; no model runs.

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
        """The results, merged into `merged` segments."""
        return [
            result if self.merged is None else result.merge(min(self.merged, result.n_segments))
            for result in self.results
        ]

    def pick(self, which: int, label: int) -> None:
        """Select a segment of a result; none, if there is no such segment."""
        exists = 0 <= which < len(self.results) and 0 <= label < len(self.shown[which].colors)
        self.picked = (which, label) if exists else None

    def agreement(self) -> dict[str, float]:
        """Measures of agreement of the two results as shown; empty unless there are two."""
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
        """The command lines and the Python code that make the results as shown; empty without any."""
        made = [(request, self._merged_into(which)) for which, request in enumerate(self.requests)]
        return (
            "\n".join(request.command_line(self.name, merged) for request, merged in made),
            "\n".join(request.python(self.name, merged) for request, merged in made),
        )

    def _merged_into(self, which: int) -> int | None:
        return None if self.merged is None else min(self.merged, self.results[which].n_segments)

    def _forget(self, name: str, image: Image.Image | None) -> None:
        self.name, self.image = name, image
        self.requests, self.results, self.merged, self.picked = (), [], None, None

    def _run(self, image: Image.Image, requests: Sequence[SegmentRequest]) -> list[Segmentation] | str | None:
        """The results, or a sentence on why there are none, or None if cancelled.

        Nothing is raised from here: a traceback would keep alive all that its frames refer to.
        """
        try:
            results = []
            for self._running in requests:
                results.append(self.engine.segment(image, self._running, self._on_progress))
            return results
        except Cancelled:
            return None
        except GensegError as error:
            return str(error)
        except (MemoryError, RuntimeError) as error:
            from genseg.errors import is_out_of_memory

            if is_out_of_memory(error):
                return "the machine is out of memory; choose a smaller size or model"
            return _unexpected(error)
        except Exception as error:  # a backend may raise anything, and the app goes on
            return _unexpected(error)

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        self._progress = stage, done, total
        if self._cancelled.is_set():
            raise Cancelled

    def _status(self) -> Status:
        stage, done, total = self._progress
        if stage == WAIT:
            return Status(f"waiting, {total} ahead" if total else "starting")
        words = f"{STAGES.get(stage, stage)} {counted(stage, done, total)}".rstrip()
        left = "" if stage == LOAD or self._running is None else left_in_words(self.engine.estimate(self._running))
        return Status(f"{words}, {left}" if left else words, done / total)


def _colored_alike(results: list[Segmentation]) -> list[Segmentation]:
    """The results, each segment in the color of the segment of the first result that it matches."""
    from genseg.evaluation.agreement import matched_colors

    first, n = results[0].labels, max(len(result.colors) for result in results)
    return [results[0]] + [
        replace(result, colors=matched_colors(result.labels, first, n)[: len(result.colors)]) for result in results[1:]
    ]


def _unexpected(error: Exception) -> str:
    logging.getLogger("genseg.app").exception("a run failed", exc_info=error)
    return f"the run failed ({type(error).__name__}); see the terminal in which genseg app runs"


class Sessions:
    """The sessions of all open tabs, by Gradio's key of each; `named` looks one up by its token."""

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
        """The session with this token; None if there is none."""
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
