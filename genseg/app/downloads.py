"""Downloads of a result, made when they are requested: label map, COCO JSON, overlay and image."""

from __future__ import annotations

import io
import json
from pathlib import PurePath
from typing import TYPE_CHECKING

from PIL import Image

from genseg.errors import GensegError
from genseg.segmentation.storage import label_map

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
        return f"{stem}.{kind}", json.dumps(segmentation.to_coco(session.name)).encode()
    if kind == "labels.png":
        picture = label_map(segmentation.labels, segmentation.colors)
    else:
        picture = segmentation.overlay() if kind == "overlay.png" else Image.fromarray(segmentation.image)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return f"{stem}.{kind}", buffer.getvalue()
