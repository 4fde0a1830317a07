"""Progress on the command line: plain lines and, on a terminal, bars."""

from __future__ import annotations

import sys
import time
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from genseg.errors import in_one_line
from genseg.progress import FIRST, TimeLeft, counted, left_in_words, minutes

ENDS = ("done", "kept", "failed")  # the stages that an image of many ends with


class _Left(ProgressColumn):
    """The time left, counting down between two reports."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["left"]())


class Bars(Progress):
    """Plain lines, and on a terminal a bar over images and one for the stage of the current image.

    Args:
        images: How many there are.
        quiet: Whether to show neither.
    """

    def __init__(self, images: int, quiet: bool = False) -> None:
        columns = (TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.fields[count]}"))
        console = Console(markup=False, emoji=False, highlight=False)
        super().__init__(*columns, _Left(), console=console, transient=True, disable=quiet or not sys.stdout.isatty())
        self._quiet = quiet
        self._estimate, self._total, self._finished, self._further = TimeLeft(), images, 0, images
        self._images = self.add_task(
            "images", total=images, count=f"0/{images}", left=self._all_left, visible=images > 1
        )
        self._stage = self.add_task("", total=None, count="", left=str)
        self._name = ""

    def _all_left(self) -> str:
        """The time left of all images; empty before one has been finished."""
        seconds = self._estimate.left(self._further)
        return "" if seconds is None else f"{minutes(seconds)} left"

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        if not self._quiet:
            self.console.print(in_one_line(line), soft_wrap=True)

    def next_image(self, line: str) -> None:
        """Print the result of an image, and count it."""
        self.say(line)
        self._finished += 1
        self._further = self._total - self._finished
        self.update(self._images, completed=self._finished, count=f"{self._finished}/{self._total}")

    def on_progress(self, what: str, stage: str, done: int, total: int) -> None:
        """Show a stage of an image, or print how the image ended, and count it."""
        if stage in ENDS:
            self.next_image(f"{what}: {stage}")
        else:
            self.stage(stage, done, total)

    def stage(self, name: str, done: int, total: int) -> None:
        """Show the progress of a stage; the bar of a single step pulses, since its progress is unknown."""
        self._estimate.report(name, done, total)
        if name == FIRST:
            self._further = self._total - self._finished - 1
        if name != self._name:
            self._name = name
            self.remove_task(self._stage)
            left = partial(left_in_words, self._estimate)
            self._stage = self.add_task(name, total=total if total > 1 else None, count="", left=left)
        if total > 1:
            self.update(self._stage, completed=done, count=counted(name, done, total))
        if name == "modulate":  # where nearly all of an image's time goes
            self.update(self._images, completed=self._finished + done / total)


STARTS = {
    "one process": "one worker is enough: segmenting in this process",
    "ray": "starting Ray, whose workers share the images",
}
"""How a run tells which of its engines it starts."""


class RunBar(Progress):
    """A line for each percent of a run, and on a terminal a bar over its images, with throughput and time left.

    Args:
        quiet: Whether to show neither.
    """

    def __init__(self, quiet: bool = False) -> None:
        columns = (TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.fields[count]}"))
        console = Console(markup=False, emoji=False, highlight=False)
        super().__init__(*columns, console=console, transient=True, disable=quiet or not sys.stdout.isatty())
        self._quiet, self._begun, self._before = quiet, time.monotonic(), 0
        self._bar = self.add_task("start", total=None, count="")
        self._percent = -1

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Show the progress of a stage; for images, with their pace since it began."""
        if stage in STARTS:
            if not self._quiet:
                self.console.print(STARTS[stage], soft_wrap=True)
            return
        if stage != "images":
            self.update(self._bar, description=stage)
            return
        if self.tasks[0].description != stage:
            self._begun, self._before = time.monotonic(), done
            self.update(self._bar, description=stage, total=total)
        count, seconds = f"{done}/{total}", time.monotonic() - self._begun
        if done > self._before:
            pace = (done - self._before) / seconds
            count += f", {pace:.3g} a second, {minutes((total - done) / pace)} left"
        self.update(self._bar, completed=done, count=count)
        if self.disable and not self._quiet and self._percent != (percent := 100 * done // max(total, 1)):
            self._percent = percent
            self.console.print(f"images: {count}", soft_wrap=True)
