"""Progress and time left of an image: in numbers, in words, and as a bar."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""A progress callback: ``(stage, done, total)``."""

FIRST, LAST = "encode", "labels"  # the stages that an image begins and ends with

UNITS = {"features": "draws", "modulate": "masks", "decode": "masks"}
UNITS |= dict.fromkeys(("sample", "centres", "examples", "classes"), "images")  # of a run

TRUST = 0.1  # what the image before says of the speed weighs as much as this part of the stage measured now


class TimeLeft:
    """Estimates the seconds left from reports of progress and their times.

    The times of each stage of the last image predict those of the next, corrected by the pace of the running stage.
    For the first image only the pace of the running stage is known. It is measured over the later half of what is done,
    so that warming up, or a first timestep that is cheaper than the others, does not distort it for long.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # bars are drawn by a thread of their own
        self._before: dict[str, _Course] = {}  # the stages of the last image that was finished
        self._now: dict[str, _Course] = {}  # and of the running one
        self._stage = ""
        self._finished: float | None = None
        self._between = 0.0  # seconds from one image to the next, in which files are read and written

    def report(self, stage: str, done: int, total: int) -> None:
        """Record that ``done`` of ``total`` parts of a stage are done."""
        with self._lock:
            now = self._clock()
            if stage == FIRST and done == 0:
                if self._finished is not None and not self._now:  # else the image before this one has failed
                    self._between = now - self._finished
                self._now = {}
            self._stage = stage
            self._now.setdefault(stage, _Course(now, total)).add(now, done)
            if stage == LAST and done == total:
                self._before, self._now, self._finished = self._now, {}, now

    def stage_left(self) -> float | None:
        """Return the seconds left of the running stage; None while they are unknown."""
        with self._lock:
            course = self._now.get(self._stage)
            return None if course is None else course.left(self._clock(), self._before.get(self._stage))

    def left(self, further: int = 0) -> float | None:
        """Return the seconds left of the running image and ``further`` ones; None before an image is finished."""
        with self._lock:
            if not self._before or self._finished is None:
                return None
            whole = self._between + sum(course.seconds for course in self._before.values())
            if not self._now:
                return max(further * whole - (self._clock() - self._finished), 0.0)
            running = self.stage_left()
            if running is None:
                return None
            ahead = sum(course.seconds for stage, course in self._before.items() if stage not in self._now)
            return running + ahead + further * whole


class _Course:
    """Times at which the parts of one stage were done."""

    def __init__(self, begun: float, total: int) -> None:
        self.begun, self.total = begun, total
        self.parts, self.times = [0.0], [0.0]  # seconds since it began at which each part, of 1, was done
        self.seconds = 0.0  # the whole stage, once it is done

    def add(self, now: float, done: int) -> None:
        if done / self.total > self.parts[-1]:
            self.parts.append(done / self.total)
            self.times.append(now - self.begun)
        if done == self.total:
            self.seconds = now - self.begun  # the last part may be told before a GPU has finished it

    def time_at(self, part: float) -> float:
        """Return when a part was done, interpolated between the reports."""
        after = min(bisect_left(self.parts, part), len(self.parts) - 1)
        if after == 0 or self.parts[after] <= part:
            return self.times[after]
        (low, high), (start, end) = self.parts[after - 1 : after + 1], self.times[after - 1 : after + 1]
        return start + (end - start) * (part - low) / (high - low)

    def left(self, now: float, before: _Course | None) -> float | None:
        """Return the seconds left at ``now``, from the same stage of the last image and from its own pace."""
        part, waited = self.parts[-1], now - self.begun - self.times[-1]
        if before is not None:
            scale = self.total / before.total
            ahead = scale * (before.seconds - before.time_at(part))
            return max(ahead * self._slowness(before, scale) - waited, 0.0)
        if part == 1:
            return 0.0
        since = max(part / 2, self.parts[1]) if part > 0 else 0.0
        if since == part:  # a single step is no pace: it holds all the warming up
            return None
        pace = (self.times[-1] - self.time_at(since)) / (part - since)
        longest = max(high - low for low, high in pairwise(self.parts))
        pace = max(pace, waited / longest)  # a step that is overdue shows that the pace has changed
        return max(pace * (1 - part) - waited, 0.0)

    def _slowness(self, before: _Course, scale: float) -> float:
        """Return the ratio of this stage's time to that of the last image, from its first step on."""
        if len(self.parts) == 1:
            return 1.0
        trusted = TRUST * before.seconds * scale + 1e-9
        expected = scale * (before.time_at(self.parts[-1]) - before.time_at(self.parts[1]))
        return (trusted + self.times[-1] - self.times[1]) / (trusted + expected)


def counted(stage: str, done: int, total: int) -> str:
    """Format the progress of a stage, such as ``7/25 masks``; empty for a stage of one step."""
    return f"{done}/{total} {UNITS.get(stage, '')}".rstrip() if total > 1 else ""


def minutes(seconds: float) -> str:
    """Format seconds as ``0:07``, ``12:30`` or ``1:02:03``."""
    whole = round(seconds)
    hours = f"{whole // 3600}:{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02d}"


def left_in_words(estimate: TimeLeft) -> str:
    """Format the time left of the running image or, while that is unknown, of its stage; empty if both are."""
    if (seconds := estimate.left()) is not None:
        return f"{minutes(seconds)} left"
    if (seconds := estimate.stage_left()) is not None:
        return f"{minutes(seconds)} left in this stage"
    return ""


class Bar:
    """A tqdm bar for each image, in terminals and notebooks: stage, count and time left. It is a progress callback."""

    def __init__(self) -> None:
        self._estimate = TimeLeft()
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show the progress of a stage; the bar disappears when the image is finished."""
        from tqdm.auto import tqdm  # tells notebooks from terminals when it is imported

        self._estimate.report(stage, done, total)
        if self._bar is None:
            self._bar = tqdm(total=1.0, bar_format="{percentage:3.0f}%|{bar}| {desc}", leave=False)
        self._bar.n = done / total  # for a notebook's bar takes no other total
        left = left_in_words(self._estimate)
        words = f"{stage} {counted(stage, done, total)}".rstrip() + (f", {left}" if left else "")
        self._bar.set_description_str(words)  # draws
        if stage == LAST and done == total:
            self._bar.close()
            self._bar = None
