"""Changes of a result that need no model: small parts cleaned, parts split, segments merged by tree or by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from genseg.errors import GensegError
from genseg.segmentation.tree import NATURAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genseg.segmentation import Segmentation

Cut: TypeAlias = Literal["number", "height", "auto"]
Call: TypeAlias = tuple[str, *tuple[float | str, ...]]  # a method of `Segmentation` and its arguments


class Joined(NamedTuple):
    """Segments merged by hand.

    Attributes:
        which: Index of the result.
        target: The label that they all have then.
        labels: Those that they had.
    """

    which: int
    target: int
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Edits:
    """How results are shown, in the order in which it is done.

    Attributes:
        min_area: The share of the image, in [0, 1], below which parts are merged into a neighbor.
        connected: Whether each connected part is a segment.
        by: How the merge tree is cut: at a number of segments, at a height, or at its natural height.
        number: Upper bound of segments; None for all.
        height: In [0, 1].
        joined: Segments merged by hand, one merge after another.

    Raises:
        GensegError: For a number or a share out of range.
    """

    min_area: float = 0.0
    connected: bool = False
    by: Cut = "auto"
    number: int | None = None
    height: float = NATURAL
    joined: tuple[Joined, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no segmentation can be made of."""
        if self.number is not None and self.number < 1:
            raise GensegError(f"segments can be merged into 1 or more, not {self.number}")
        if not (0 <= self.min_area <= 1 and 0 <= self.height <= 1):
            raise GensegError(f"min_area and height must lie in [0, 1], not be {self.min_area} and {self.height}")

    def tidy(self) -> list[Call]:
        """Calls before the merges."""
        cleaned: list[Call] = [("clean", self.min_area)] if self.min_area else []
        return [*cleaned, ("components",)] if self.connected else cleaned

    def cut(self, n_segments: int) -> list[Call]:
        """Calls that cut the tree of a result with so many segments."""
        if self.by == "number":
            return [] if self.number is None or self.number >= n_segments else [("merge", self.number)]
        return [("merge", "auto")] if self.by == "auto" else [("cut", self.height)]

    def joined_in(self, which: int) -> list[Joined]:
        """Merges by hand in a result."""
        return [each for each in self.joined if each.which == which]


def called(segmentation: Segmentation, calls: Sequence[Call]) -> Segmentation:
    """Make calls one after another."""
    for name, *arguments in calls:
        segmentation = getattr(segmentation, name)(*arguments)
    return segmentation


def joined(segmentation: Segmentation, merges: Sequence[Joined]) -> Segmentation:
    """Merge segments by hand; labels keep their numbers, colors and names."""
    for merge in merges:
        labels = np.where(np.isin(segmentation.labels, merge.labels), np.int32(merge.target), segmentation.labels)
        segmentation = replace(segmentation, labels=labels)
    return segmentation


def python_of(calls: Sequence[Call], merges: Sequence[Joined]) -> str:
    """Lines of Python that make the same changes to ``seg``."""
    lines = [f"seg = seg.{name}({', '.join(map(repr, arguments))})" for name, *arguments in calls]
    lines += [f"seg.labels[numpy.isin(seg.labels, {list(each.labels)})] = {each.target}" for each in merges]
    return "".join(f"{line}\n" for line in lines)
