"""Export formats by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from genseg.exports.items import ExportImage, Target


class Format(NamedTuple):
    """An export format.

    Attributes:
        module: Of genseg.exports, whose ``write`` writes it.
        layout: How keys become names: one of `genseg.exports.file_names.LAYOUTS`.
        keys: Whether the format has a place for keys; if not, they are in ``keys.csv`` beside it.
        needs_classes: Whether the format holds classes alone, not segments.
        has_things: Whether the format tells things, whose masks are segments, from stuff.
        suffix: The one that images may have; None for any.
    """

    module: str
    layout: str = "folders"
    keys: bool = True
    needs_classes: bool = False
    has_things: bool = False
    suffix: str | None = None

    @property
    def write(self) -> Callable[[Iterable[ExportImage], Target], None]:
        """Writes the images of an export; those after the first are made while it runs."""
        write: Callable[[Iterable[ExportImage], Target], None] = import_module(f"genseg.exports.{self.module}").write
        return write


EXPORTS = {
    "coco-instances": Format("coco_instances"),
    # detectron2's evaluator and others know files by their last part, and it takes .jpg for granted
    "coco-panoptic": Format("coco_panoptic", "flat", has_things=True, suffix=".jpg"),
    "cityscapes": Format("cityscapes", "city", keys=False, needs_classes=True, suffix=".png"),
    "voc": Format("voc", "flat", keys=False, suffix=".jpg"),
    "yolo-seg": Format("yolo", "flat", keys=False),
    "huggingface": Format("huggingface"),
    "label-studio": Format("label_studio"),
    "labelme": Format("labelme"),
    "cvat": Format("cvat", "flat", keys=False),
}
"""By name, as in `genseg.export_run`."""
