"""What visitors give as an image: bytes and a name, neither of which is trusted; and the examples."""

from __future__ import annotations

import io
from pathlib import Path, PurePath

from PIL import Image

import genseg
from genseg.errors import GensegError


def read(content: bytes, name: str, most: int) -> tuple[str, Image.Image]:
    """Read the bytes of an image file.

    Args:
        content: The file.
        name: Its name, as the visitor has it.
        most: Images of more pixels are refused, before they are decoded.

    Returns:
        The name made `plain`, and the image, upright and in RGB.

    Raises:
        GensegError: If it cannot be segmented; the message says what to do.
    """
    from genseg.images import load_image

    name = plain(name)
    try:
        opened = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise GensegError(f"{name} has more than the {most} pixels allowed here; scale it down") from error
    except (OSError, SyntaxError, ValueError) as error:
        what = "is not an image that Pillow reads" if content else "is empty"
        raise GensegError(f"{name} {what}; choose a PNG, JPEG, TIFF or WebP file") from error
    if opened.width * opened.height > most:
        size = f"{opened.width}x{opened.height}"
        raise GensegError(f"{name} has {size} pixels, over the limit of {most} here; scale it down")
    return name, load_image(opened, most)


def examples() -> list[Path]:
    """The example photos: in a wheel beside this module, in a checkout among the examples."""
    here = Path(__file__).parent / "examples"
    folder = here if here.is_dir() else Path(genseg.__file__).parents[1] / "examples" / "images"
    return sorted(folder.glob("*.jpg"))


def plain(name: str) -> str:
    """A file's name without folders, line breaks and what a terminal would act upon."""
    kept = "".join(c for c in PurePath(name.replace("\\", "/")).name if c.isprintable())
    return kept[-100:] or "image"
