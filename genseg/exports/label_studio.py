"""Pre-annotations for Label Studio: brush masks that annotators correct."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from typing import IO, Any
from xml.sax.saxutils import quoteattr

from genseg.exports.brush import brush_rle
from genseg.exports.items import Item, Target
from genseg.segmentation import palette

TASKS = 500  # in a file, since Label Studio takes in whole files


def write(items: Iterable[Item], target: Target) -> None:
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
    """The interface that a project needs: an image, and a brush for each name."""
    names = tuple(names)
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(colour).hex()}"/>\n'
        for name, colour in zip(names, palette(len(names)).tolist(), strict=True)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )


def _task(item: Item, target: Target) -> dict[str, Any]:
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
