"""Pre-annotations for Label Studio: brush masks that annotators correct."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from typing import IO, Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from genseg.display.palette import palette
from genseg.exports.items import ExportImage, Target

TASKS = 500  # in a file, since Label Studio takes in whole files

CHANNELS = 4  # a mask is an image of red, green, blue and alpha, all of them the mask

SIZES = np.array([3, 4, 8, 16])  # bits of a run's length; each run has the fewest that do


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``tasks/00000.json``, …, ``label_config.xml`` and ``images/``, which Label Studio serves as local files."""
    (target.folder / "label_config.xml").write_text(label_config(target.categories), encoding="utf-8")
    folder = target.folder / "tasks"
    folder.mkdir()
    with ExitStack() as opened:
        file: IO[str]
        for item in items:
            index, within = divmod(item.number - 1, TASKS)
            if within == 0:
                opened.close()
                file = opened.enter_context((folder / f"{index:05}.json").open("w", encoding="utf-8"))
                opened.callback(file.write, "\n]\n")
            file.write(("[\n" if within == 0 else ",\n") + json.dumps(_task(item, target), separators=(",", ":")))


def label_config(names: Iterable[str]) -> str:
    """Return the labeling interface of a project: an image, and a brush for each name."""
    names = tuple(names)
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(color).hex()}"/>\n'
        for name, color in zip(names, palette(len(names)).tolist(), strict=True)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )


def _task(item: ExportImage, target: Target) -> dict[str, Any]:
    height, width = item.row.size
    placed = item.place(target.folder / "images")
    at = placed if target.images == "none" else f"/data/local-files/?d=images/{placed}"
    results = [
        {
            "id": str(segment.label),
            "type": "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": round(segment.confidence, 4),
            "value": {
                "format": "rle",
                "rle": brush_rle(item.labels == segment.label),
                "brushlabels": [target.categories[segment.category]],
            },
        }
        for segment in item.segments
    ]
    prediction = {"model_version": target.description, "result": results}
    return {"data": {"image": at, "key": item.row.key}, "predictions": [prediction]}


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
