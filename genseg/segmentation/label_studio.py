"""Regions of Label Studio: a segment as a brush mask, which is exact, as polygons or as a box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from genseg.segmentation.polygons import editable

KINDS = ("brushlabels", "polygonlabels", "rectanglelabels")
"""The types of regions, the most exact first."""

CHANNELS = 4  # a mask is an image of red, green, blue and alpha, all of them the mask

SIZES = np.array([3, 4, 8, 16])  # bits of a run's length; each run has the fewest that do

CENTER = 0.5  # of a pixel, from its corner


class Control(NamedTuple):
    """The tag of a project's labeling interface that regions belong to.

    Attributes:
        kind: One of `KINDS`.
        name: Its name.
        image: The name of the tag of the image.
    """

    kind: str
    name: str
    image: str


def regions_of(
    mask: npt.NDArray[np.bool_],
    label: int,
    control: Control,
    names: Sequence[str],
    confidence: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the regions of a segment: one, but for polygons one for each connected part.

    Args:
        mask: bool (H, W), with at least one pixel.
        label: Number of the segment, which the ids of its regions begin with.
        control: What the regions belong to.
        names: Its class; empty for a region that an annotator is to label.
        confidence: Mean over its pixels.
    """
    height, width = mask.shape
    shapes = {"brushlabels": _brush, "polygonlabels": _polygons, "rectanglelabels": _box}[control.kind](mask)
    for number, shape in enumerate(shapes):
        region = {
            "id": f"{label}-{number}" if number else str(label),
            "type": control.kind,
            "from_name": control.name,
            "to_name": control.image,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": shape | {control.kind: list(names)},
        }
        yield region if confidence is None else region | {"score": round(confidence, 4)}


def _brush(mask: npt.NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    yield {"format": "rle", "rle": brush_rle(mask)}


def _polygons(mask: npt.NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    height, width = mask.shape
    for ring in editable(mask):
        yield {"points": ((ring + CENTER) / [width, height] * 100).round(4).tolist(), "closed": True}


def _box(mask: npt.NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = {
        "x": columns[0] / mask.shape[1],
        "y": rows[0] / mask.shape[0],
        "width": (columns[-1] + 1 - columns[0]) / mask.shape[1],
        "height": (rows[-1] + 1 - rows[0]) / mask.shape[0],
    }
    yield {side: round(100 * float(share), 4) for side, share in box.items()} | {"rotation": 0}


def brush_rle(mask: npt.NDArray[np.bool_]) -> list[int]:
    """A mask (H, W) as bytes: a head, then for each run of 0 or 255 its length less one, and the value.

    In bits: 32 of the number of values, 5 of a value's bits less one, 4 times 4 of `SIZES` less one. Each run has a 1,
    2 that choose the size, the length less one in that size, and 8 of the value. (rle-pack of thi.ng/umbrella, which
    Label Studio uses, also has single values in a row, under a 0.)
    """
    values = np.repeat(mask.ravel(), CHANNELS)
    starts = np.flatnonzero(np.diff(values, prepend=not values[0]))
    lengths = np.diff(starts, append=len(values))
    longest = 1 << int(SIZES[-1])
    pieces = -(-lengths // longest)  # of runs that are too long for a size
    bits = np.repeat(values[starts], pieces)
    less_one = np.full(len(bits), longest - 1)
    less_one[np.cumsum(pieces) - 1] = (lengths - 1) % longest
    sizes = np.searchsorted((1 << SIZES) - 1, less_one)
    code = (((4 | sizes) << SIZES[sizes] | less_one) << 8) | np.where(bits, 255, 0)
    widths = 3 + SIZES[sizes] + 8
    places = np.arange(widths.max())
    shifts = widths[:, None] - 1 - places
    body = (code[:, None] >> np.maximum(shifts, 0) & 1).astype(np.uint8)[shifts >= 0]
    head = f"{len(values):032b}{8 - 1:05b}{''.join(f'{size - 1:04b}' for size in SIZES)}"
    packed: list[int] = np.packbits(np.concatenate([np.array(list(head), dtype=np.uint8), body])).tolist()
    return packed
