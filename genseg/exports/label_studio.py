"""Pre-annotations for Label Studio: brush masks that annotators correct."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from typing import IO, Any
from xml.sax.saxutils import quoteattr

from genseg.display.palette import palette
from genseg.exports.items import ExportImage, Target
from genseg.segmentation.label_studio import Control, regions_of

TASKS = 500  # in a file, since Label Studio takes in whole files

CONTROL = Control("brushlabels", "label", "image")


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
    placed = item.place(target.folder / "images")
    at = placed if target.images == "none" else f"/data/local-files/?d=images/{placed}"
    results = [
        region
        for segment in item.segments
        for region in regions_of(
            item.labels == segment.label,
            segment.label,
            CONTROL,
            [target.categories[segment.category]],
            segment.confidence,
        )
    ]
    prediction = {"model_version": target.description, "result": results}
    return {"data": {"image": at, "key": item.row.key}, "predictions": [prediction]}
