"""Images in any form that users have them, as 8-bit RGB, and as tensors for a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.errors import ImageError
from genseg.images.files import check_size, decode, image_errors, name_of

if TYPE_CHECKING:  # a file that cannot be read is refused before torch is imported
    from torch import Tensor

ImageLike: TypeAlias = "str | Path | bytes | Image.Image | npt.NDArray[Any] | Tensor"


LARGEST_INPUT = 8  # times the area that the model's input should have
DARK = 16  # of 256 levels; 16-bit data that stay below were not scaled to 16 bits
ORIENTATION = 0x0112  # EXIF's tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transpositions that make an image of each EXIF orientation upright."""


def load_image(source: ImageLike, max_pixels: int, name: str = "") -> Image.Image:
    """Read an image as 8-bit RGB, upright.

    Args:
        source: A path; a file's content as bytes; a PIL image of any mode; an array (H, W), (H, W, 3) or (H, W, 4);
            or a tensor (H, W), (3, H, W) or (4, H, W). Arrays and tensors are uint8, uint16, or floating point in
            [0, 1].
        max_pixels: Larger images are refused, before they are decoded.
        name: What errors call the image; its path unless given.

    Returns:
        A PIL image of mode RGB: EXIF rotation applied, transparency laid on white, 16 bits rounded to 8.

    Raises:
        ImageError: If it is no image, or one that cannot be segmented; the message says what to do.
    """
    if isinstance(source, (str, Path, bytes)):
        file = source if isinstance(source, bytes) else Path(source)
        name = name or name_of(file)
        image, is_deep = decode(file, max_pixels, name)
        return _rgb(_upright(image), name, is_deep)
    if isinstance(source, Image.Image):
        check_size(source.size, max_pixels, "the image")
        with image_errors("the image", "is damaged or truncated ({}); get the file again"):
            source.load()
        return _rgb(_upright(source), "the image")
    if isinstance(source, np.ndarray) or _is_tensor(source):
        return _rgb(_from_array(source, max_pixels), "the image")
    raise ImageError(f"an image must be a path, a PIL image, an array or a tensor, not a {type(source).__name__}")


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of an image, from 1 (upright) to 8; nothing else of its EXIF data matters."""
    try:
        value = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF data are a file format of their own, damaged or odd in as many ways
        return 1
    return value if value in TURNS else 1


def model_size(width: int, height: int, area_side: int, multiple: int, resize: str) -> tuple[int, int]:
    """The (width, height) at which a model sees an image.

    ``"area"``: both sides scaled so that the area is about ``area_side``², cut off to whole pixels, then rounded
    **up** to multiples of ``multiple``, as the authors' notebook does. ``"square"``: ``area_side`` × ``area_side``,
    rounded up to multiples.

    Raises:
        ImageError: If the image is so narrow that the model's input would be many times as large as it should be.
    """
    scale = area_side / math.sqrt(width * height)
    sides = (width * scale, height * scale) if resize == "area" else (area_side, area_side)
    snapped = [max(math.ceil(int(side) / multiple), 1) * multiple for side in sides]
    if snapped[0] * snapped[1] > LARGEST_INPUT * max(area_side, multiple) ** 2:
        raise ImageError(
            f"an image of {width}x{height} pixels is too narrow for the model; crop it, or use resize=square"
        )
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


def _from_array(source: npt.NDArray[Any] | Tensor, max_pixels: int) -> Image.Image:
    if isinstance(source, np.ndarray):
        array, kinds = source, "(H, W), (H, W, 3) or (H, W, 4)"
        if isinstance(source, np.ma.MaskedArray):
            raise ImageError("the image is a masked array, whose mask would be ignored; fill it first: array.filled(0)")
    else:
        array, kinds = _array_of(source), "(H, W), (3, H, W) or (4, H, W)"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"an image {type(source).__name__.lower()} must have shape {kinds}, not {tuple(source.shape)}")
    check_size((array.shape[1], array.shape[0]), max_pixels, "the image")
    array = _eight_bits(array, "the image")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _is_tensor(source: object) -> TypeGuard[Tensor]:
    from torch import Tensor

    return isinstance(source, Tensor)


def _array_of(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor (H, W) or (C, H, W) as an array (H, W) or (H, W, C)."""
    import torch

    if tensor.is_nested or tensor.is_meta or tensor.is_quantized or tensor.layout is not torch.strided:
        raise ImageError("an image must be a dense tensor of plain numbers, not meta, sparse, nested or quantized")
    with image_errors("the image", f"is a tensor of {tensor.dtype}, which NumPy does not have; convert it first"):
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
        array: npt.NDArray[Any] = (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).numpy()
    return array


def _upright(image: Image.Image) -> Image.Image:
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, name: str, is_deep: bool = False) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB: more bits are scaled to 8, transparency is laid on white.

    Args:
        image: Decoded, or not yet.
        name: For errors.
        is_deep: Whether it is the upper half of 16 bits a channel.

    Raises:
        ImageError: If it is damaged, the range of its values is not known, or its mode has no conversion.
    """
    with image_errors(name, "cannot be converted to RGB ({}); convert it first"):
        image.load()
        is_numeric = image.mode == "F" or image.mode.startswith("I")
        if is_numeric:
            image = _scaled(image, name)
        elif image.mode == "La":  # Pillow converts it to LA alone
            image = image.convert("LA")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        rgb = image.convert("RGB")
        if is_deep and not is_numeric:
            _check_dark(max(np.ravel(rgb.getextrema())), name)
        return rgb


def _eight_bits(
    array: npt.NDArray[Any], name: str, declared: tuple[float, float] | None = None
) -> npt.NDArray[np.uint8]:
    """Scale numbers to 8 bits.

    Args:
        array: uint8; uint16 over all its range; or floating point in [0, 1].
        name: Of the image, for errors.
        declared: The values of black and white, where the image says so; the dtype may then be any.

    Raises:
        ImageError: If the range of the values is not known.
    """
    if array.dtype == np.uint8:
        return array
    is_float, is_uint16 = array.dtype.kind == "f", array.dtype.kind == "u" and array.dtype.itemsize == 2
    if declared is None and not (is_float or is_uint16):
        raise ImageError(
            f"{name} must be uint8, uint16 or floating point in [0, 1], not {array.dtype}; convert it first"
        )
    if not np.isfinite(array).all():
        raise ImageError(f"{name} has NaN or infinite values; replace them first")
    if declared is None and is_float and (array.min() < 0 or array.max() > 1):
        raise ImageError(
            f"{name} has floating-point values, which must lie in [0, 1], "
            f"not [{array.min():.3g}, {array.max():.3g}]; scale the image first"
        )
    if declared is None and is_uint16:
        _check_dark(float(array.max()) / 257, name)
    black, white = declared or ((0, 1) if is_float else (0, 65535))
    levels = np.clip((array.astype(np.float64) - black) * (255 / (white - black)), 0, 255)
    rounded: npt.NDArray[np.uint8] = np.round(levels).astype(np.uint8)
    return rounded


def _scaled(image: Image.Image, name: str) -> Image.Image:
    """An image of more than 8 bits as one of 8."""
    array, declared = np.asarray(image), _declared_range(image)
    if image.mode == "I" and declared is None and image.format is None and 0 <= array.min() <= array.max() <= 65535:
        array = array.astype(np.uint16)  # made in memory, of 16 bits as Pillow once had them
    if declared is not None and declared[1] >= 2**31 and array.dtype == np.int32:
        array = array.view(np.uint32)
    return Image.fromarray(_eight_bits(array, name, declared))


def _declared_range(image: Image.Image) -> tuple[float, float] | None:
    """Black and white of an image of more than 8 bits, by its tags or its format; None where nothing says."""
    tags = getattr(image, "tag_v2", {})
    for low, high in ((280, 281), (340, 341)):  # MinSampleValue and MaxSampleValue, and those of signed and float data
        if high in tags:
            black, white = (float(np.ravel(tags.get(tag, 0))[0]) for tag in (low, high))
            if black < white < float("inf"):
                return black, white
    if image.mode.startswith("I;16") and tags.get(258) == (12,):  # BitsPerSample
        return 0, 4095
    return (0, 65535) if image.mode == "I" and image.format not in ("TIFF", None) else None


def _check_dark(level: float, name: str) -> None:
    """Refuse 16-bit data that end far below white, as those of cameras and scanners of 10 or 12 bits do."""
    if 0 < level < DARK:
        raise ImageError(
            f"{name} uses less than a sixteenth of the range of 16 bits and would be nearly black; "
            "scale its values to 0..65535 first"
        )
