"""Giving the masks of a run classes, and counting what each class got."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError, ImageError
from genseg.progress import Progress
from genseg.runs.rows import DONE, Row
from genseg.runs.run import Run


@dataclass(frozen=True)
class ClassCounts:
    """What each class of a set got of a run.

    Attributes:
        names: Of the classes 0..N-1.
        masks: How many masks each was given.
        pixels: How many pixels those have.
    """

    names: tuple[str, ...]
    masks: tuple[int, ...]
    pixels: tuple[int, ...]

    @classmethod
    def of(cls, run: Run, classes: str) -> ClassCounts:
        """Read what was counted as the classes were given.

        Args:
            run: The run.
            classes: What the set of classes is called in it.

        Raises:
            GensegError: If there is none of the name, or nothing was counted.
        """
        names, file = run.class_names(classes), f"classes/{classes}/classes.json"
        record = run.store.read_json(file) or {}
        masks: Any = record.get("masks")
        pixels: Any = record.get("pixels")
        for counts in (masks, pixels):
            if not isinstance(counts, list) or [type(count) for count in counts] != [int] * len(names):
                raise GensegError(f"{run.store.path(file)} has no counts of its classes; give the classes again")
        return cls(names, tuple(masks), tuple(pixels))


def check_name(classes: str) -> None:
    """Refuse a name for a set of classes that cannot be a folder's.

    Raises:
        GensegError: If it has other characters than letters, digits, ``-``, ``_`` and ``.``.
    """
    if not re.fullmatch(r"\w[\w.-]*", classes):
        raise GensegError(f"a set of classes cannot be called {classes!r}; use letters, digits, -, _ and .")


def give_classes(
    run: Run,
    classes: str,
    names: Sequence[str],
    choose: Callable[[Row], npt.NDArray[np.integer]],
    columns: Sequence[str],
    progress: Progress | None = None,
    *,
    resume: bool = False,
    **about: Any,
) -> None:
    """Give every mask of a run a class by `Run.assign`, and count.

    Args:
        run: The run.
        classes: What the set of classes is called.
        names: Of the classes.
        choose: The class of each label of a row, -1 for none.
        columns: That ``choose`` needs: at least ``masks`` or ``labels_png``.
        progress: Called with ``"classes"``, the images done and how many there are.
        resume: Whether images whose masks were given some of these classes before, in the same way, keep them.
        **about: Further facts for the record, which say in what way.

    Raises:
        GensegError: If ``resume`` is asked for and the classes of the name were given in another way.
    """
    asked = {"names": list(names)} | about
    _go_on(run, classes, asked, resume)
    total, done = run.counts()[DONE], 0
    masks, pixels = [0] * len(names), [0] * len(names)

    def counted(row: Row) -> npt.NDArray[np.int32]:
        nonlocal done
        try:
            areas, given = _areas(row), row.classes
        except ImageError as error:
            run.damaged[row.key] = str(error)
            return np.empty(0, dtype=np.int32)
        if given is None or len(given) != len(areas) or given.max() < 0:
            given = choose(row).astype(np.int32)
        for number, area in zip(given.tolist(), areas.tolist(), strict=True):
            if number >= 0:
                masks[number] += 1
                pixels[number] += area
        done += 1
        if progress is not None:
            progress("classes", done, total)
        return given

    # The record is written after the last row has been counted.
    run.assign(classes, names, counted, columns, resume=True, masks=masks, pixels=pixels, **about)


def _go_on(run: Run, classes: str, asked: Mapping[str, Any], resume: bool) -> None:
    """Keep the classes that were given in the same way, or forget those of before; then write down in which way.

    In this order, so that none of before is taken for one of these if this is killed and gone on with.
    """
    file = f"classes/{classes}/asked.json"
    before = run.store.read_json(file)
    if not resume or before is None:
        run.forget(classes)
    elif before != json.loads(json.dumps(asked)):
        raise GensegError(
            f"the classes {classes} were given in another way; choose another name, or replace them without --resume"
        )
    run.store.write_json(file, asked)


def _areas(row: Row) -> npt.NDArray[np.int64]:
    """Pixels of each label, from the one or the other column."""
    if row.labels_png is not None:
        return np.bincount(row.labels.ravel())
    areas = np.zeros(row.masks[-1].label + 1, dtype=np.int64)
    areas[[mask.label for mask in row.masks]] = [mask.area for mask in row.masks]
    return areas
