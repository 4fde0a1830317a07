"""Reading what users call an image, and shaping it for a model."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from genseg.errors import GensegError

if TYPE_CHECKING:  # a file that cannot be read is refused before torch is imported
    from torch import Tensor

ImageLike: TypeAlias = "str | Path | bytes | Image.Image | npt.NDArray[Any] | Tensor"

SMALLEST_SIDE = 16  # pixels; nothing smaller has anything to segment


def load_image(source: ImageLike, max_pixels: int) -> Image.Image:
    """Read an image as 8-bit RGB, upright.

    Args:
        source: A path; a file's content as bytes; a PIL image of any mode; an array (H, W), (H, W, 3) or (H, W, 4);
            or a tensor (H, W), (3, H, W) or (4, H, W). Arrays and tensors are uint8, uint16, or floating point in
            [0, 1].
        max_pixels: Larger images are refused, before they are decoded.

    Returns:
        A PIL image of mode RGB: EXIF rotation applied, transparency laid on white, 16 bits rounded to 8.

    Raises:
        GensegError: If it is no image, or one that cannot be segmented; the message says what to do.
    """
    if isinstance(source, (str, Path)):
        image = open_image(Path(source), max_pixels)
    elif isinstance(source, bytes):
        image = _opened(io.BytesIO(source), max_pixels, "the image")
    elif isinstance(source, Image.Image):
        _check_size(source.size, max_pixels, "the image")
        image = source
        _decode(image, "the image")
    elif isinstance(source, np.ndarray) or _is_tensor(source):
        image = _from_array(source, max_pixels)
    else:
        raise GensegError(f"an image must be a path, a PIL image, an array or a tensor, not a {type(source).__name__}")
    return _rgb(ImageOps.exif_transpose(image))


def model_size(width: int, height: int, area_side: int, multiple: int, resize: str) -> tuple[int, int]:
    """The (width, height) at which a model sees an image.

    ``"area"``: both sides scaled so that the area is about ``area_side``², cut off to whole pixels, then rounded
    **up** to multiples of ``multiple``, as the authors' notebook does. ``"square"``: ``area_side`` × ``area_side``,
    rounded up to multiples.
    """
    scale = area_side / math.sqrt(width * height)
    sides = (width * scale, height * scale) if resize == "area" else (area_side, area_side)
    snapped = [max(math.ceil(int(side) / multiple), 1) * multiple for side in sides]
    return snapped[0], snapped[1]


def to_tensor(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """An RGB image scaled to ``size`` (width, height) with LANCZOS: float32 [1, 3, H, W] in [-1, 1]."""
    import torch

    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """Pixels [3, H, W] in [-1, 1] as an RGB image; what lies beyond is cut off. The inverse of `to_tensor`."""
    levels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def mirrored(maps: Tensor, margin: int) -> Tensor:
    """Continue maps [..., H, W] by ``margin`` positions beyond each border, the border itself repeated first."""
    import torch

    rows, columns = (torch.from_numpy(np.pad(np.arange(n), margin, mode="symmetric")) for n in maps.shape[-2:])
    return maps[..., rows, :][..., columns]


def inner(maps: Tensor, margin: int) -> Tensor:
    """Cut ``margin`` positions off each border of maps [..., H, W]: the inverse of `mirrored`."""
    height, width = maps.shape[-2:]
    return maps[..., margin : height - margin, margin : width - margin]


def open_image(path: Path, max_pixels: int) -> Image.Image:
    """Open and decode an image file, its mode and orientation as stored.

    Raises:
        GensegError: If it is no image, or one of a size that cannot be segmented; the message says what to do.
    """
    try:
        return _opened(path, max_pixels, str(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GensegError(f"{path} does not exist; check the path") from error
    except IsADirectoryError as error:
        raise GensegError(f"{path} is a folder; give the path of an image in it") from error
    except PermissionError as error:
        raise GensegError(f"{path} may not be read; change its permissions") from error


def _opened(file: Path | io.BytesIO, max_pixels: int, name: str) -> Image.Image:
    try:
        with _no_pixel_limit(), Image.open(file) as image:
            _check_size(image.size, max_pixels, name)
            _decode(image, name)
            return image
    except UnidentifiedImageError as error:
        size = file.stat().st_size if isinstance(file, Path) else file.getbuffer().nbytes
        what = "is not an image that Pillow reads" if size else "is empty"
        raise GensegError(f"{name} {what}; give a PNG, JPEG, TIFF or WebP file") from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, GensegError):
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise GensegError(f"{name} cannot be opened ({getattr(error, 'strerror', None) or error}); check it") from error


def _decode(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged data
        raise GensegError(f"{name} is damaged or truncated ({error}); get the file again") from error


@contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Pillow's own limit neither warns nor stops here: `max_pixels` is checked before anything is decoded."""
    kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = kept


def _check_size(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise GensegError(
            f"{name} has {width}x{height} pixels, over the limit of {max_pixels}; "
            f"raise it with max_pixels={width * height}"
        )
    if min(size) < SMALLEST_SIDE:
        raise GensegError(f"{name} is {width}x{height} pixels; images need at least {SMALLEST_SIDE} on each side")


def _is_tensor(source: object) -> TypeGuard[Tensor]:
    from torch import Tensor

    return isinstance(source, Tensor)


def _array_of(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor (H, W) or (C, H, W) as an array (H, W) or (H, W, C)."""
    import torch

    tensor = tensor.detach().cpu()
    tensor = tensor.float() if tensor.dtype is torch.bfloat16 else tensor  # of which numpy has none
    array: npt.NDArray[Any] = (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).numpy()
    return array


def _from_array(source: npt.NDArray[Any] | Tensor, max_pixels: int) -> Image.Image:
    shape = tuple(source.shape)
    if isinstance(source, np.ndarray):
        kinds = "(H, W), (H, W, 3) or (H, W, 4)"
        array = source
    else:
        kinds = "(H, W), (3, H, W) or (4, H, W)"
        array = _array_of(source)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise GensegError(f"an image {type(source).__name__.lower()} must have shape {kinds}, not {shape}")
    _check_size((array.shape[1], array.shape[0]), max_pixels, "the image")
    if array.dtype == np.uint16:
        array = _eight_bits(array)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise GensegError("the image has NaN or infinite values; replace them first")
        if array.min() < 0 or array.max() > 1:
            raise GensegError(
                f"floating-point images must lie in [0, 1], not [{array.min():.3g}, {array.max():.3g}]; "
                "scale the image first"
            )
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise GensegError(
            f"an image must be uint8, uint16 or floating point in [0, 1], not {array.dtype}; convert it first"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _eight_bits(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    rounded: npt.NDArray[np.uint8] = np.round(np.clip(array, 0, 65535) / 257).astype(np.uint8)
    return rounded


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.mode == "F":
        return _rgb(_from_array(np.asarray(image), image.width * image.height))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
