"""Open image files of users: the one place that decodes them. Nothing here needs torch."""

from __future__ import annotations

import io
import math
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from genseg.errors import ImageError, NotAnImageError, TooLargeError

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""Of the files that are taken from a folder or a pattern."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "HEIF", "JPEG2000", "PPM", "TGA")
"""Of Pillow's formats those that are opened: photos, none that starts a program (EPS) or decodes at once (ICO).

HEIF is there once a plug-in such as pillow-heif has registered it.
"""

SMALLEST_SIDE = 16  # pixels; nothing smaller has anything to segment
END = b"\xff\xd9"  # of a JPEG
_LIMIT = threading.Lock()  # Pillow's limit of pixels is the process's


def open_image(source: Path | bytes, max_pixels: int, name: str = "") -> Image.Image:
    """Open and decode an image file, its mode and orientation as stored; of several frames the first.

    Args:
        source: A path, or a file's content.
        max_pixels: Larger images are refused, by their header alone.
        name: For errors; the path unless given.

    Raises:
        ImageError: If it is no image, or one that cannot be used; the message says what to do.
    """
    return decode(source, max_pixels, name or name_of(source))[0]


def name_of(source: Path | bytes) -> str:
    """How errors call an image."""
    return "the image" if isinstance(source, bytes) else str(source)


def decode(source: Path | bytes, max_pixels: int, name: str) -> tuple[Image.Image, bool]:
    """Do as `open_image` does; also tell whether the file has 16 bits a channel, of which Pillow keeps 8 of colors."""
    with _opened(source) as file:
        with image_errors(name, "cannot be opened ({}); check it"):
            image, is_deep = _header(file, max_pixels, name)
            has_frames = _has_frames(image)
        check_size(image.size, max_pixels, name)
        if has_frames:
            warnings.warn(f"{name} has several frames; the first is taken", stacklevel=3)
        try:
            with (
                image_errors(name, "is damaged or truncated ({}); get the file again"),
                _allowing(math.prod(image.size)),
            ):
                image.load()
        except ImageError:
            if image.format != "JPEG" or (whole := _without_its_end(file)) is None:
                raise
            warnings.warn(f"{name} lacks its last bytes, but no pixel", stacklevel=3)
            image = whole
        return image, is_deep


def check_size(size: tuple[int, int], max_pixels: int, name: str) -> None:
    """Refuse an image (width, height) that is too large or too small to be segmented."""
    width, height = size
    if width * height > max_pixels:
        raise TooLargeError(
            f"{name} has {width}x{height} pixels, over the limit of {max_pixels}; "
            f"scale it down, or raise the limit with max_pixels={width * height}"
        )
    if min(size) < SMALLEST_SIDE:
        raise ImageError(f"{name} is {width}x{height} pixels; images need at least {SMALLEST_SIDE} on each side")


@contextmanager
def image_errors(name: str, problem: str) -> Iterator[None]:
    """Turn whatever Pillow or a decoder raises into an error of the image ``name``; ``problem`` has {} for the cause.

    Damaged files make decoders raise anything: OSError, SyntaxError, struct.error, RuntimeError, OverflowError.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} does not fit into memory; scale it down") from error
    except Exception as error:
        cause = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise ImageError(f"{name} {problem.format(cause)}") from error


@contextmanager
def _opened(source: Path | bytes) -> Iterator[IO[bytes]]:
    """The file of an image: a regular one, for a pipe or a device may never end."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            kind = "a folder; give the path of an image in it" if source.is_dir() else "no regular file; name another"
            raise ImageError(f"{source} is {kind}")
        file = source.open("rb")
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        link = f" is a link to {source.readlink()}, which" if source.is_symlink() else ""
        raise ImageError(f"{source}{link} does not exist; check the path") from error
    except PermissionError as error:
        raise ImageError(f"{source} may not be read; change its permissions") from error
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{source} cannot be opened ({getattr(error, 'strerror', None) or error}); check it"
        ) from error
    with file:
        yield file


def _header(file: IO[bytes], max_pixels: int, name: str) -> tuple[Image.Image, bool]:
    """An image of which no pixel has been decoded, and whether it has 16 bits a channel."""
    Image.init()  # registers all formats, of which a build of Pillow may lack some
    formats = [each for each in FORMATS if each in Image.OPEN]
    try:
        with _allowing(max_pixels):
            image = Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        file.seek(0)
        head = file.read(12)
        if head[4:11] in (b"ftyphei", b"ftyphev", b"ftypmif"):
            raise NotAnImageError(
                f"{name} is a HEIC photo, which Pillow does not read; convert it to JPEG or PNG"
            ) from error
        problem = "is not an image that genseg reads" if head else "is empty"
        raise NotAnImageError(f"{name} {problem}; give a PNG, JPEG, TIFF or WebP file") from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(
            f"{name} has more than {2 * max_pixels} pixels, over the limit of {max_pixels}; "
            "scale it down, or raise the limit with max_pixels"
        ) from error
    return image, any(";16" in str(tile[3]) for tile in image.tile)


def _has_frames(image: Image.Image) -> bool:
    """Whether a file is an animation or a stack; further frames of a phone's MPO belong to the same photo."""
    if image.format == "MPO":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame, which does not matter
        image.seek(0)
        return False


@contextmanager
def _allowing(pixels: int) -> Iterator[None]:
    """Raise Pillow's own limit to ``pixels`` where it is lower: it warns above and refuses above twice the limit."""
    with _LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        if before is not None and before < pixels:
            Image.MAX_IMAGE_PIXELS = pixels
            try:
                yield
            finally:
                Image.MAX_IMAGE_PIXELS = before
            return
    yield


def _without_its_end(file: IO[bytes]) -> Image.Image | None:
    """A JPEG that lacks its end marker and no pixel; None if it lacks more, or is damaged.

    If data are missing the decoder makes pixels of what stands in their place, so two endings give two images.
    """
    file.seek(0)
    content = file.read().removesuffix(END[:1])
    try:
        images = [Image.open(io.BytesIO(content + tail + END), formats=["JPEG"]) for tail in (b"", 64 * b"\xaa")]
        same = images[0].tobytes() == images[1].tobytes()
    except Exception:
        return None
    return images[0] if same else None
