"""``POST /segment``: an image file in, its masks out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genseg.errors import unknown
from genseg.service.segmenting import Choice

if TYPE_CHECKING:
    from genseg.segmentation import Mask, Segmentation

PARAMETERS = ("format", "n_segments", "n_clusters", "classes")
"""Of a request's query."""


def choice_of(query: Mapping[str, str]) -> Choice:
    """Return what a query chooses.

    Raises:
        GensegError: For an unknown parameter, or a class without a name.
    """
    from genseg.naming import classes_of

    for name in query:
        if name not in PARAMETERS:
            raise unknown("parameter", name, PARAMETERS)
    classes = classes_of(query["classes"]) if "classes" in query else ()
    return Choice(query.get("n_segments"), query.get("n_clusters"), classes)


def format_of(query: Mapping[str, str]) -> str:
    """Return the format that a query chooses.

    Raises:
        GensegError: If it is unknown.
    """
    name = query.get("format", "coco")
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return name


def coco(segmentation: Segmentation, name: str) -> dict[str, Any]:
    """COCO's JSON, with exact run lengths."""
    return segmentation.to_coco(name)


def labelme(segmentation: Segmentation, name: str) -> dict[str, Any]:
    """The file that labelme reads beside the image."""
    from genseg.segmentation.labelme import document_of

    return document_of(segmentation, Path(name), Path("beside.json"))


def sam(segmentation: Segmentation, _: str) -> list[dict[str, Any]]:
    """The records of Segment Anything's mask generator, the largest mask first."""
    return [_record(mask) for mask in segmentation.masks()]


def _record(mask: Mask) -> dict[str, Any]:
    from genseg.segmentation.coco import run_lengths

    runs = {"size": list(mask.segmentation.shape), "counts": run_lengths(mask.segmentation)}
    named = {} if mask.name is None else {"name": mask.name}
    return mask.to_sam() | {"segmentation": runs, "label": mask.label} | named


FORMATS = {"coco": coco, "labelme": labelme, "sam": sam}
"""Makes the answer of a segmentation and the image's name."""
