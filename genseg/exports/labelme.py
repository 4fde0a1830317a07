"""labelme's JSON: a file beside each image."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePosixPath

from genseg.exports.items import ExportImage, Target
from genseg.segmentation.labelme import document, shapes_of


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``NAME.jpg`` and ``NAME.json``, whose shapes have a segment's label as group and its confidence described."""
    for item in items:
        placed = item.place(target.folder)
        shapes = [
            shape
            for segment in item.segments
            for shape in shapes_of(
                item.labels == segment.label, target.categories[segment.category], segment.label, segment.confidence
            )
        ]
        image_path = placed if target.images == "none" else PurePosixPath(placed).name
        content = document(shapes, image_path, item.row.size) | {"key": item.row.key}
        file = target.folder / f"{item.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
