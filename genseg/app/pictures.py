"""What the page shows of a segmentation: small pictures, as data in the page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import find_boundaries

from genseg.display.html import data_uri
from genseg.segmentation import Segmentation

SIDE = 1024  # pixels, at most, of a picture's longer side
THUMBNAIL = 144


def small(image: Image.Image, side: int = SIDE) -> Image.Image:
    """The image, scaled down to at most ``side`` pixels a side; never up."""
    scale = min(side / max(image.size), 1)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def as_data(image: Image.Image) -> str:
    """A picture as a data URI: JPEG for RGB, else PNG, which is exact."""
    buffer, kind = io.BytesIO(), "jpeg" if image.mode == "RGB" else "png"
    image.save(buffer, format=kind, quality=88)
    return data_uri(f"image/{kind}", buffer.getvalue())


def view(image: Image.Image, segmentation: Segmentation | None = None, title: str = "") -> dict[str, Any]:
    """What the viewer draws: the photo, and the label of each of its pixels with the labels' colours and areas."""
    photo = small(image)
    shown: dict[str, Any] = {"title": title, "photo": as_data(photo), "width": photo.width, "height": photo.height}
    if segmentation is not None:
        labels = Image.fromarray(segmentation.labels.astype(np.uint8)).resize(photo.size, Image.Resampling.NEAREST)
        areas = np.bincount(segmentation.labels.ravel(), minlength=len(segmentation.colors))
        shown |= {"labels": as_data(labels), "colors": segmentation.colors.tolist(), "areas": areas.tolist()}
    return shown


def difference_map(segmentation: Segmentation, label: int) -> Image.Image:
    """A segment's difference map, bright where the image changes when its cluster is perturbed."""
    import matplotlib

    assert segmentation.scores is not None
    scores = segmentation.scores[label]
    levels = scores / max(float(scores.max()), 1e-12)
    coloured = matplotlib.colormaps["inferno"](levels, bytes=True)[..., :3]
    height, width = segmentation.labels.shape
    return Image.fromarray(np.ascontiguousarray(coloured)).resize(
        small(Image.new("L", (width, height))).size, Image.Resampling.BILINEAR
    )


def grid_cells(segmentation: Segmentation, label: int) -> Image.Image:
    """The low-resolution cells of a segment's cluster, in its colour over the faded photo."""
    photo = small(Image.fromarray(segmentation.image))
    rows, columns = segmentation.grid_labels.shape
    cells = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    cell_of = np.asarray(Image.fromarray(cells).resize(photo.size, Image.Resampling.NEAREST))
    inside = (segmentation.grid_labels == label).ravel()[cell_of]
    pixels = np.asarray(photo).astype(np.float32)
    colour = segmentation.colors[label].astype(np.float32)
    mixed: npt.NDArray[np.float32] = np.where(inside[..., None], 0.45 * pixels + 0.55 * colour, 0.25 * pixels + 191)
    mixed[find_boundaries(cell_of, mode="inner") & inside] = 255
    return Image.fromarray(mixed.astype(np.uint8))
