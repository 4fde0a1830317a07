"""Files of a result, made when they are requested: pictures, masks, and every format that ``genseg export`` has."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from genseg.errors import GensegError, needing
from genseg.exports.file_names import FileNamer
from genseg.exports.formats import EXPORTS
from genseg.segmentation.storage import label_map
from genseg.web.engine import IMPORTS

if TYPE_CHECKING:
    from genseg.app.session import Session
    from genseg.segmentation import Segmentation

FILES = {
    "overlay.png": "Overlay, PNG",
    "labels.png": "Label map, PNG",
    "image.png": "Image, PNG",
    "coco.json": "Masks, COCO JSON",
    "npz": "All for genseg, npz",
}
"""The kinds of downloads that are one file, and their titles."""

CUTOUT, MASKS = "cutout.png", "masks.json"
"""The kinds of downloads that hold the selected segments alone."""

FORMATS = tuple(name for name, format in EXPORTS.items() if not format.needs_classes)
"""Export formats that take segments without names."""


def download(
    session: Session,
    which: int,
    kind: str,
    *,
    selected: Collection[int] = (),
    opacity: float = 0.5,
    outlines: bool = True,
) -> tuple[str, bytes]:
    """Make a download of a result as it is shown.

    Args:
        session: The session of the results.
        which: Index of the result.
        kind: A key of `FILES`, one of `FORMATS`, `CUTOUT` or `MASKS`.
        selected: Labels of the selected segments.
        opacity: Of the segments in an overlay, in [0, 1].
        outlines: Whether an overlay has them.

    Returns:
        The file's name and content; a format of several files is a ZIP archive of them.

    Raises:
        GensegError: If there is no such kind, result or segment, or the format cannot hold the segments.
    """
    if kind not in (*FILES, *FORMATS, CUTOUT, MASKS) or not 0 <= which < len(session.shown):
        raise GensegError("there is no such file; segment an image first")
    segmentation, stem = session.shown[which], PurePath(session.name).stem
    if len(session.shown) > 1 and kind != "image.png":
        stem += f".{which + 1}-{segmentation.backend}"
    if kind in FORMATS or kind == "npz":
        suffix, content = _exported(segmentation, session.name, kind)
        return f"{stem}.{kind}{suffix}", content
    name = f"{stem}.{kind}"
    match kind:
        case "coco.json":
            return name, json.dumps(segmentation.to_coco(session.name)).encode()
        case "masks.json":
            masks = segmentation.to_coco(session.name)
            masks["annotations"] = [each for each in masks["annotations"] if each["id"] - 1 in selected]
            return name, json.dumps(masks).encode()
        case "cutout.png":
            return name, _png(cutout(segmentation, selected))
        case "labels.png":
            return name, _png(label_map(segmentation.labels, segmentation.colors))
        case "overlay.png":
            return name, _png(segmentation.overlay(opacity, outlines=outlines))
        case _:
            return name, _png(Image.fromarray(segmentation.image))


def cutout(segmentation: Segmentation, selected: Collection[int]) -> Image.Image:
    """Cut segments out of the image: RGBA of the box around them, transparent elsewhere.

    Raises:
        GensegError: If no pixel is selected.
    """
    inside = np.isin(segmentation.labels, list(selected))
    picture = Image.fromarray(np.dstack([segmentation.image, np.where(inside, np.uint8(255), np.uint8(0))]))
    box = Image.fromarray(inside).getbbox()
    if box is None:
        raise GensegError("no segment is selected; click one first")
    return picture.crop(box)


def _exported(segmentation: Segmentation, image: str, kind: str) -> tuple[str, bytes]:
    """The suffix and the content of what ``genseg export`` makes of a result, or of the ``.npz`` file that it reads."""
    with tempfile.TemporaryDirectory(prefix="genseg-app-") as folder:
        saved = replace(segmentation, scores=None).save(Path(folder) / f"{FileNamer('flat').of(image)}.npz")
        if kind == "npz":
            return "", saved.read_bytes()
        with needing("export", "exporting needs"), IMPORTS:
            from genseg.exports.export import export_run

            _ = EXPORTS[kind].write
        out = Path(folder) / "export"
        export_run(saved, kind, out)
        files = sorted(path for path in out.rglob("*") if path.is_file())
        if len(files) == 1:
            return files[0].suffix, files[0].read_bytes()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.write(path, path.relative_to(out))
        return ".zip", buffer.getvalue()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
