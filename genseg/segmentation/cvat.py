"""Segments as CVAT's XML has them ("CVAT for images 1.1"): masks as run lengths, which are exact.

The runs of a mask go along the rows of its box, of 0 and 1 in turn and of 0 first.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from genseg.errors import in_one_line
from genseg.segmentation.coco import UNNAMED, run_lengths
from genseg.segmentation.result import Segmentation

CONFIDENCE = "confidence"
"""The attribute of masks that CVAT shows beside each, where its task has labels with such an attribute."""

FOOT = "</annotations>\n"


def head(names: Iterable[str], description: str) -> str:
    """Return the beginning of a file: what comes before the images.

    Args:
        names: Of the labels.
        description: Of the task.
    """
    attribute = (
        f"<attribute><name>{CONFIDENCE}</name><mutable>False</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
    )
    labels = "".join(
        f"<label><name>{escape(in_one_line(name))}</name><attributes>{attribute}</attributes></label>\n"
        for name in names
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta>\n<task>\n<name>{escape(in_one_line(description))}</name>\n<mode>annotation</mode>\n"
        f"<labels>\n{labels}</labels>\n</task>\n</meta>\n"
    )


def image_element(number: int, file_name: str, size: tuple[int, ...], masks: Iterable[str]) -> str:
    """Return the element of an image.

    Args:
        number: 0, 1, … in the file.
        file_name: By which CVAT finds the image in its task.
        size: (H, W).
        masks: Elements from `mask_element`.
    """
    name = quoteattr(in_one_line(file_name))
    return f'<image id="{number}" name={name} width="{size[1]}" height="{size[0]}">\n{"".join(masks)}</image>\n'


def mask_element(mask: npt.NDArray[np.bool_], name: str, confidence: float | None = None) -> str:
    """Return the element of a mask.

    Args:
        mask: bool (H, W), with at least one pixel.
        name: Of its label.
        confidence: Mean over its pixels.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    runs = ", ".join(map(str, run_lengths(box.T)))  # those of COCO go along columns
    attribute = "" if confidence is None else f'<attribute name="{CONFIDENCE}">{confidence:.4f}</attribute>'
    return (
        f'<mask label={quoteattr(in_one_line(name))} source="auto" occluded="0" rle="{runs}" left="{columns[0]}" '
        f'top="{rows[0]}" width="{box.shape[1]}" height="{box.shape[0]}" z_order="0">{attribute}</mask>\n'
    )


def document_of(segmentation: Segmentation, file_name: str) -> str:
    """Return a segmentation's file: its segments by name, or as ``segment``."""
    masks = sorted(segmentation.masks(), key=lambda mask: mask.label)
    names = dict.fromkeys(mask.name or UNNAMED for mask in masks)
    elements = [mask_element(mask.segmentation, mask.name or UNNAMED, mask.confidence) for mask in masks]
    image = image_element(0, file_name, segmentation.labels.shape, elements)
    return head(names, f"masks by genseg, backend {segmentation.backend}") + image + FOOT
