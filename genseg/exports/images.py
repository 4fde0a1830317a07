"""Images beside their labels: linked, copied, or written anew if tools cannot read them as they are."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from PIL import Image

from genseg.errors import ImageError
from genseg.images import orientation
from genseg.images.files import image_errors
from genseg.runs.rows import Row
from genseg.runs.sources import ImageSource, locate

IMAGES = ("link", "copy", "none")
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}  # of what is taken as it is
QUALITY = 95  # of images that must be JPEG and are not


def place(row: Row, folder: Path, name: str, images: str, suffix: str | None = None) -> str:
    """Put the image of a row into a folder: as it is if it is upright and of a format that tools read.

    Args:
        row: Of a run.
        folder: Where to.
        name: Of the file, without suffix; may have folders.
        images: ``"link"`` links files of this machine, and copies all others; ``"copy"`` copies; ``"none"`` writes
            nothing.
        suffix: The one format that may be written, ``".jpg"`` or ``".png"``; None for any.

    Returns:
        The file's name below the folder; for ``"none"``, where the image lies.

    Raises:
        GensegError: If the image cannot be read, or is not the one that was segmented.
    """
    if images == "none":
        return row.source.uri
    file = local_file(row.source) if images == "link" and row.image is None else None
    stored = file and stored_suffix(file, row.size, suffix)
    content = b""
    if not stored:
        content, stored = encoded(row, suffix)
    target = folder / f"{name}{stored}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if content:
        target.write_bytes(content)
    else:
        assert file is not None
        _link(target, file)
    return f"{name}{stored}"


def _link(target: Path, file: Path) -> None:
    """Make a second name of a file: some tools refuse symbolic links that lead out of a dataset."""
    try:
        target.hardlink_to(file.resolve())
    except OSError:  # on another disk, or of another owner
        target.symlink_to(file)


def encoded(row: Row, suffix: str | None = None) -> tuple[bytes, str]:
    """Return the image of a row as a file's content, and the suffix; see `place`."""
    content = row.source.read() if row.image is None else row.image
    stored = stored_suffix(io.BytesIO(content), row.size, suffix)
    if stored:
        return content, stored
    buffer = io.BytesIO()
    replace(row, image=content).picture().save(buffer, FORMATS[suffix or ".png"], quality=QUALITY)
    return buffer.getvalue(), suffix or ".png"


def verified(row: Row, images: str, suffix: str | None = None) -> Row:
    """Check that the maps of a row and its image can be used; the image is then in memory unless it is linked.

    Args:
        row: Of a run.
        images: One of `IMAGES`.
        suffix: The one format that may be written; see `place`.

    Returns:
        The row with its image as `place` puts it: what has to be written anew has been.

    Raises:
        GensegError: If one cannot be read, or has another size.
    """
    _ = row.labels, row.confidence
    if images == "none":
        return row
    file = local_file(row.source) if images == "link" and row.image is None else None
    if file and stored_suffix(file, row.size, suffix):
        return row
    return replace(row, image=encoded(row, suffix)[0])


def local_file(source: ImageSource) -> Path | None:
    """Return the local file of an image; None for a part of a file, or one elsewhere."""
    if source.offset is not None:
        return None
    try:
        fs, path = locate(source.uri)
    except (ImportError, ValueError):
        return None  # whoever reads it says what is wrong
    return Path(path).absolute() if "file" in fs.protocol else None


def stored_suffix(file: Path | io.BytesIO, size: tuple[int, int], suffix: str | None = None) -> str | None:
    """Return the suffix of a stored image that tools read as the run did; None if they would not.

    Args:
        file: The image.
        size: (H, W), upright.
        suffix: The one that there may be; None for any of `FORMATS`.
    """
    try:
        with image_errors("", ""), Image.open(file, formats=list(FORMATS.values())) as image:  # reads the head alone
            as_seen = orientation(image) == 1 and image.size == size[::-1]
            stored = {kind: each for each, kind in FORMATS.items()}.get(image.format or "")
    except ImageError:
        return None  # whoever reads it says what is wrong
    return stored if as_seen and suffix in (None, stored) else None
