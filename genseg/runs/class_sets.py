"""Assigning classes to the masks of a run, counting the masks of each class, and the centers of classes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from genseg.errors import GensegError, ImageError
from genseg.progress import Progress
from genseg.runs.rows import DONE, Row
from genseg.runs.run import Run

CENTERS = pa.schema([("name", pa.string()), ("centre", pa.list_(pa.float32()))])


@dataclass(frozen=True)
class ClassCounts:
    """Masks and pixels of each class of a run.

    Attributes:
        names: Names of the classes 0..N-1.
        masks: Number of masks of each class.
        pixels: Number of pixels of each class.
    """

    names: tuple[str, ...]
    masks: tuple[int, ...]
    pixels: tuple[int, ...]

    @classmethod
    def of(cls, run: Run, classes: str) -> ClassCounts:
        """Read the counts of a set of classes.

        Args:
            run: The run.
            classes: Name of the set of classes.

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


def assign_classes(
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
    """Assign a class to every mask of a run by `Run.assign`, and count.

    Args:
        run: The run.
        classes: Name of the set of classes.
        names: Names of the classes.
        choose: The class of each label of a row, -1 for none.
        columns: Columns that ``choose`` needs: at least ``masks`` or ``labels_png``.
        progress: Progress callback: ``("classes", done, total)`` in images.
        resume: Whether images whose masks were given some of these classes before, in the same way, keep them.
        **about: Further facts for the record: how the classes were chosen.

    Raises:
        GensegError: If ``resume`` is true and the classes of the name were chosen in another way.
    """
    request = {"names": list(names)} | about
    _resume_or_reset(run, classes, request, resume)
    total, done = run.counts()[DONE], 0
    masks, pixels = [0] * len(names), [0] * len(names)

    def counted(row: Row) -> npt.NDArray[np.int32]:
        nonlocal done
        try:
            areas, numbers = _areas(row), row.classes
        except ImageError as error:
            run.damaged[row.key] = str(error)
            return np.empty(0, dtype=np.int32)
        if numbers is None or len(numbers) != len(areas) or numbers.max() < 0:
            numbers = choose(row).astype(np.int32)
        for number, area in zip(numbers.tolist(), areas.tolist(), strict=True):
            if number >= 0:
                masks[number] += 1
                pixels[number] += area
        done += 1
        if progress is not None:
            progress("classes", done, total)
        return numbers

    # The record is written after the last row has been counted.
    run.assign(classes, names, counted, columns, resume=True, masks=masks, pixels=pixels, **about)


def _resume_or_reset(run: Run, classes: str, request: Mapping[str, Any], resume: bool) -> None:
    """Keep the classes of the same request, or forget those of before; then write the request down.

    In this order, so that an interrupted call never mixes old and new classes.
    """
    file = f"classes/{classes}/asked.json"
    before = run.store.read_json(file)
    if not resume or before is None:
        run.forget(classes)
    elif before != json.loads(json.dumps(request)):
        raise GensegError(
            f"the classes {classes} were given in another way; choose another name, or replace them without --resume"
        )
    run.store.write_json(file, request)


def save_centers(run: Run, classes: str, names: Sequence[str], centers: npt.NDArray[np.float32]) -> None:
    """Write the center of each class, float32 (N, C), beside the classes that were given by them."""
    run.store.write_table(_centers(classes), pa.table({"name": list(names), "centre": list(centers)}, CENTERS))


def load_centers(run: Run, classes: str) -> npt.NDArray[np.float32] | None:
    """Read the centers of a set of classes.

    Returns:
        float32 (N, C), NaN for a class that is never assigned; None for classes without, such as names by text.

    Raises:
        GensegError: If there are no such classes, or their centers are damaged.
    """
    names = run.class_names(classes)
    if not run.store.has(_centers(classes)):
        return None
    batches = run.store.batches(_centers(classes), CENTERS)
    centers = [center for batch in batches for center in batch.column("centre").to_pylist()]
    if len(centers) != len(names) or len({len(center or ()) for center in centers}) != 1:
        raise GensegError(f"the centers of the classes {classes} are damaged; find or give the classes again")
    return np.array(centers, dtype=np.float32)


def _centers(classes: str) -> str:
    return f"classes/{classes}/centres.parquet"


def _areas(row: Row) -> npt.NDArray[np.int64]:
    """Pixels of each label, from the one or the other column."""
    if row.labels_png is not None:
        return np.bincount(row.labels.ravel())
    areas = np.zeros(row.masks[-1].label + 1, dtype=np.int64)
    areas[[mask.label for mask in row.masks]] = [mask.area for mask in row.masks]
    return areas
