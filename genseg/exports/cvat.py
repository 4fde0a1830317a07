"""CVAT's own XML, "CVAT for images 1.1", with a mask for each segment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from genseg.display.palette import palette
from genseg.errors import in_one_line
from genseg.exports.items import ExportImage, Target
from genseg.segmentation.cvat import CONFIDENCE, FOOT, head, image_element, mask_element


def write(items: Iterable[ExportImage], target: Target) -> None:
    """``annotations.xml``, ``images/``, and ``labels.json``, which CVAT takes as the labels of a task."""
    labels = json.dumps(task_labels(target.categories), indent=2)
    (target.folder / "labels.json").write_text(labels, encoding="utf-8")
    with (target.folder / "annotations.xml").open("w", encoding="utf-8") as file:
        file.write(head(target.categories, target.description))
        for item in items:
            placed = item.place(target.folder / "images")
            masks = (
                mask_element(item.labels == segment.label, target.categories[segment.category], segment.confidence)
                for segment in item.segments
            )
            file.write(image_element(item.number - 1, placed, item.row.size, masks))
        file.write(FOOT)


def task_labels(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the labels of a task as CVAT's form for labels takes them under "Raw"."""
    names = tuple(names)
    confidence = {"name": CONFIDENCE, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    return [
        {"name": in_one_line(name), "color": f"#{bytes(color).hex()}", "attributes": [confidence]}
        for name, color in zip(names, palette(len(names)).tolist(), strict=True)
    ]
