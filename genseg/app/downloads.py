"""Downloads of a result, made when they are requested: label map, COCO JSON, overlay and image."""

from __future__ import annotations

import io
import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.errors import GensegError
from genseg.exports.coco import annotation, category_entries, image_entry
from genseg.segmentation import Segmentation

if TYPE_CHECKING:
    from genseg.app.session import Session

FILES = ("labels.png", "coco.json", "overlay.png", "image.png")
"""The kinds of downloads."""


def download(session: Session, which: int, kind: str) -> tuple[str, bytes]:
    """Make a download of a result as it is shown.

    Args:
        session: The session of the results.
        which: Index of the result.
        kind: One of `FILES`.

    Returns:
        The file's name and content.

    Raises:
        GensegError: If there is no such kind or result.
    """
    shown = session.shown
    if kind not in FILES or not 0 <= which < len(shown):
        raise GensegError("there is no such file; segment an image first")
    segmentation, stem = shown[which], PurePath(session.name).stem
    if len(shown) > 1 and kind != "image.png":
        stem += f".{which + 1}-{segmentation.backend}"
    if kind == "coco.json":
        return f"{stem}.{kind}", json.dumps(coco(segmentation, session.name)).encode()
    if kind == "labels.png":
        picture = Image.fromarray(segmentation.labels.astype("uint8"))
        picture.putpalette(segmentation.colors.tobytes())
    else:
        picture = segmentation.overlay() if kind == "overlay.png" else Image.fromarray(segmentation.image)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return f"{stem}.{kind}", buffer.getvalue()


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
