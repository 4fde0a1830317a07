"""Images that visitors upload, of which neither bytes nor name are trusted."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def read_upload(content: bytes, name: str, max_pixels: int) -> tuple[str, Image.Image]:
    """Read the bytes of an image file.

    Args:
        content: The file.
        name: Its name on the visitor's machine.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        The `safe_name`, and the image, upright and in RGB.

    Raises:
        ImageError: If it cannot be segmented; the message says what to do.
    """
    from genseg.images import load_image

    name = safe_name(name)
    return name, load_image(content, max_pixels, name)


def safe_name(name: str) -> str:
    """A file's name without folders, line breaks and control characters of a terminal."""
    printable = "".join(c for c in PurePath(name.replace("\\", "/")).name if c.isprintable())
    return printable[-100:] or "image"
