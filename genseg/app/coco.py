"""Segments as COCO's JSON, which annotation tools and pycocotools read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.exports.coco import annotation, category_entries, image_entry
from genseg.segmentation import Segmentation


def coco(segmentation: Segmentation, file_name: str) -> dict[str, Any]:
    """One image's segments as annotations, each an uncompressed run-length code: exact, unlike polygons.

    Args:
        segmentation: Its labels become ids 1, 2, …; labels without pixels are left out.
        file_name: The image's name.

    Returns:
        ``images``, ``annotations`` and ``categories``: the segments' names if they have some, else ``"segment"``.
    """
    height, width = segmentation.labels.shape
    names = segmentation.names
    categories = list(segmentation.classes) if names is not None else ["segment"]
    annotations = []
    for label in np.unique(segmentation.labels).tolist():
        mask = segmentation.labels == label
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        left, top = int(columns[0]), int(rows[0])
        box = [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
        category = categories.index(names[label]) if names is not None else 0
        runs = {"size": [height, width], "counts": _runs(mask)}
        annotations.append(annotation(label + 1, 1, category, runs, int(mask.sum()), box))
    return {
        "info": {"description": f"segments by genseg, backend {segmentation.backend}, seed {segmentation.seed}"},
        "images": [image_entry(1, file_name, (height, width))],
        "annotations": annotations,
        "categories": category_entries(categories),
    }


def _runs(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, of 0 first, down the columns."""
    edges = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False, append=False))
    bounds = np.concatenate([[0], edges, [mask.size]])
    runs: list[int] = np.diff(bounds).tolist()
    return runs if runs[-1] else runs[:-1]
