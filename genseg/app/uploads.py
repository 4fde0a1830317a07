"""Images that visitors upload, of which neither bytes nor name are trusted; and the example photos."""

from __future__ import annotations

from pathlib import Path, PurePath

from PIL import Image

import genseg


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


def examples() -> list[Path]:
    """The example photos: in a wheel beside this module, in a checkout among the examples."""
    packaged = Path(__file__).parent / "examples"
    folder = packaged if packaged.is_dir() else Path(genseg.__file__).parents[1] / "examples" / "images"
    return sorted(folder.glob("*.jpg"))


def safe_name(name: str) -> str:
    """A file's name without folders, line breaks and control characters of a terminal."""
    printable = "".join(c for c in PurePath(name.replace("\\", "/")).name if c.isprintable())
    return printable[-100:] or "image"
