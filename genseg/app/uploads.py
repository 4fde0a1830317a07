"""What visitors give as an image: bytes and a name, neither of which is trusted; and the examples."""

from __future__ import annotations

from pathlib import Path, PurePath

from PIL import Image

import genseg


def read(content: bytes, name: str, most: int) -> tuple[str, Image.Image]:
    """Read the bytes of an image file.

    Args:
        content: The file.
        name: Its name, as the visitor has it.
        most: Images of more pixels are refused, before they are decoded.

    Returns:
        The name made `plain`, and the image, upright and in RGB.

    Raises:
        ImageError: If it cannot be segmented; the message says what to do.
    """
    from genseg.images import load_image

    name = plain(name)
    return name, load_image(content, most, name)


def examples() -> list[Path]:
    """The example photos: in a wheel beside this module, in a checkout among the examples."""
    here = Path(__file__).parent / "examples"
    folder = here if here.is_dir() else Path(genseg.__file__).parents[1] / "examples" / "images"
    return sorted(folder.glob("*.jpg"))


def plain(name: str) -> str:
    """A file's name without folders, line breaks and what a terminal would act upon."""
    kept = "".join(c for c in PurePath(name.replace("\\", "/")).name if c.isprintable())
    return kept[-100:] or "image"
