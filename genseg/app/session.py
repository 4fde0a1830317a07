"""The state of one tab, without page or files: an image, its segmentations, the segment that was clicked."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from genseg.app.edits import Edits, Joined, called, joined, python_of
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
    LOAD: "loading the model; the next run will not wait for it",
    "encode": "encoding the image",
    "features": "reading features",
    "cluster": "clustering features",
    "modulate": "perturbing clusters",
    "decode": "taking differences",
    "labels": "assigning pixels to clusters",
}

MOST_COLORS = 256  # of segments that are matched by color


class Cancelled(Exception):  # noqa: N818  # no error: someone changed their mind
    """Raised by a progress callback to end a run."""


class Status(NamedTuple):
    """Progress of a run: in words, and as the fraction of its stage that is done, in [0, 1]; None outside a run."""

    words: str
    fraction: float | None = None


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
        edits: How they are shown.
        shown: The results as they are shown.
        picked: Index of the result and labels of its segments that were clicked; None without any.
        files: Names and contents to download, by the last part of their addresses.
    """

    def __init__(self, engine: Engine, address: str = "") -> None:
        self.engine = engine
        self.address = address
        self.token = secrets.token_urlsafe(24)
        self._lock, self._editing, self._cancelled = threading.Lock(), threading.Lock(), threading.Event()
        self._progress: tuple[str, int, int] = (WAIT, 0, 0)
        self._running: SegmentRequest | None = None
        self.name = ""
        self.image: Image.Image | None = None
        self.requests: tuple[SegmentRequest, ...] = ()
        self.results: list[Segmentation] = []
        self.edits = Edits()
        self._whole: list[Segmentation] = []  # edited, but not merged: their trees stay
        self.shown: list[Segmentation] = []
        self.picked: tuple[int, tuple[int, ...]] | None = None
        self.files: dict[str, tuple[str, bytes]] = {}

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
            self._show(tuple(self.engine.complete(request) for request in requests), outcome)
        finally:
            self._lock.release()

    def cancel(self) -> None:
        """End a running segmentation at its next progress callback."""
        self._cancelled.set()

    def close(self) -> None:
        """Cancel, and free the image and the results."""
        self.cancel()
        self._forget("", None)

    def edit(self, **changes: Any) -> None:
        """Change how results are shown; no model runs, and merges by hand are undone unless they are what changes.

        Args:
            **changes: Attributes of `Edits`.

        Raises:
            GensegError: For a value that cannot be.
        """
        with self._editing:
            self._apply(replace(self.edits, **{"joined": (), **changes}))

    def join(self, which: int, labels: Sequence[int]) -> None:
        """Merge segments of a result as shown by hand, into the largest of them."""
        present = self._present(which, labels)
        if len(present) > 1:
            target = max(present, key=self.shown[which].areas.__getitem__)
            self.edit(joined=(*self.edits.joined, Joined(which, target, present)))

    @property
    def most_segments(self) -> int:
        """The number of segments, before they are merged, of the result that has most; 1 without one."""
        return max((result.n_segments for result in self._whole), default=1)

    def pick(self, which: int, labels: Sequence[int]) -> None:
        """Select segments of a result as shown; labels that it does not have are left out."""
        present = self._present(which, labels)
        self.picked = (which, present) if present else None

    def keep(self, name: str, content: bytes) -> str:
        """Keep a file, in place of the one before it, until it is downloaded.

        Returns:
            The address to download it from, below that of the page.
        """
        number = secrets.token_urlsafe(6)
        self.files = {number: (name, content)}
        return f"file/{self.token}/{number}"

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
        """The command lines and the Python code that make the results as shown; empty without any.

        The command line cleans, splits and merges by hand no more than the recipe does: it is empty then.
        """
        commands, codes = [], []
        for which, request in enumerate(self.requests):
            cut, merges = self.edits.cut(self._whole[which].n_segments), self.edits.joined_in(which)
            codes.append(request.python(self.name, python_of([*self.edits.tidy(), *cut], merges)))
            if not (self.edits.tidy() or merges):
                # A cut at a height is a merge into as many segments as it leaves.
                merged = "auto" if self.edits.by == "auto" else self.shown[which].n_segments
                commands.append(request.command_line(self.name, merged if cut else None))
        return "\n".join(commands), "\n".join(codes)

    def _present(self, which: int, labels: Sequence[int]) -> tuple[int, ...]:
        areas = self.shown[which].areas if 0 <= which < len(self.shown) else ()
        return tuple(label for label in dict.fromkeys(labels) if 0 <= label < len(areas) and areas[label])

    def _show(self, requests: tuple[SegmentRequest, ...], results: list[Segmentation]) -> None:
        """Show other results; of the edits, what was chosen for the segments of those before is forgotten."""
        with self._editing:
            self.requests, self.results, self._whole = requests, results, []
            self._apply(replace(self.edits, number=None, joined=()))

    def _apply(self, edits: Edits) -> None:
        if not self._whole or edits.tidy() != self.edits.tidy():
            self._whole = _colored_alike([called(result, edits.tidy()) for result in self.results])
        shown = [called(whole, edits.cut(whole.n_segments)) for whole in self._whole]
        self.shown = [joined(segmentation, edits.joined_in(which)) for which, segmentation in enumerate(shown)]
        self.edits, self.picked = edits, None

    def _forget(self, name: str, image: Image.Image | None) -> None:
        self.name, self.image, self.files = name, image, {}
        self._show((), [])

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
            return Status(f"waiting, {total} ahead" if total else "starting", 0)
        words = f"{STAGES.get(stage, stage)} {counted(stage, done, total)}".rstrip()
        left = "" if stage == LOAD or self._running is None else left_in_words(self.engine.estimate(self._running))
        return Status(f"{words}, {left}" if left else words, done / total)


def _colored_alike(results: list[Segmentation]) -> list[Segmentation]:
    """The results, each segment in the color of the segment of the first result that it matches.

    More segments than `MOST_COLORS` keep their own: no eye tells them apart by color, and matching takes long.
    """
    from genseg.evaluation.agreement import matched_colors

    n = max((len(result.colors) for result in results), default=0)
    if len(results) < 2 or n > MOST_COLORS:
        return results
    first = results[0].labels
    return [results[0]] + [
        replace(result, colors=matched_colors(result.labels, first, n)[: len(result.colors)]) for result in results[1:]
    ]


def _unexpected(error: Exception) -> str:
    logging.getLogger("genseg.app").exception("a run failed", exc_info=error)
    return f"the run failed ({type(error).__name__}); see the terminal in which genseg app runs"
