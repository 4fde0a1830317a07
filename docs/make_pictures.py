"""Make the pictures of docs/images, but for those of the app and of GANs: ``python docs/make_pictures.py``.

Every picture is what the code computes: examples.jpg is the segments of the example photos by default, method-*.jpg the
way from a photo to its segments with the bundled model and the recipe fast, attention-*.jpg heat maps of
attention, gallery-*.jpg each kind of output.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

import genseg
from gallery_pictures import gallery
from genseg.display.palette import palette
from genseg.images import inner, load_image, model_size, to_image, to_tensor
from genseg.modulate import differences, labels_at, masks_for, perturbed
from sheets import WIDTH, grid, row

HERE = Path(__file__).parent
PHOTOS = HERE.parent / "examples" / "images"
OUT = HERE / "images"


def examples() -> None:
    """The example photos, a column each: the photo, and its segments by default."""
    segmenter = genseg.Segmenter()
    segmentations = list(segmenter.map(sorted(PHOTOS.glob("*.jpg"))))
    pictures = [Image.fromarray(segmentation.image) for segmentation in segmentations]
    pictures += [segmentation.overlay() for segmentation in segmentations]
    sizes = [(WIDTH, round(WIDTH * picture.height / picture.width)) for picture in pictures]
    scaled = [picture.resize(size, Image.Resampling.LANCZOS) for picture, size in zip(pictures, sizes, strict=True)]
    grid(scaled, len(segmentations)).save(OUT / "examples.jpg", quality=85)


def method(photo: Path = PHOTOS / "astronaut.jpg", out: Path = OUT) -> None:
    """Segment the photo, and write what comes in between."""
    segmenter = genseg.Segmenter("tiny", "fast")
    backend, recipe, point = segmenter.backend, segmenter.recipe, segmenter.point
    picture = load_image(photo, recipe.max_pixels)
    size = model_size(*picture.size, recipe.size or backend.image_size, backend.size_multiple, recipe.resize)
    pixels = to_tensor(picture, size)
    size = pixels.shape[2:]

    found = segmenter.clusters(pixels)
    grid, colours = found.grid_labels, palette(len(found.embeddings))
    row(out / "method-clusters.jpg", to_image(pixels[0]), painted(grid, colours))

    masks = masks_for(point, grid, len(colours), size, recipe.margin)
    k = int(grid[grid.shape[0] // 4, grid.shape[1] // 2])  # what is above the middle: the face
    minus, plus = (
        to_image(inner(image, recipe.margin))
        for image in backend.decode(perturbed(backend, found.state, masks[k : k + 1], recipe))
    )
    row(out / "method-modulation.jpg", grey(inner(masks[k], recipe.margin // point.stride)), minus, plus)

    whole = masks.shape[1] * point.stride, masks.shape[2] * point.stride
    maps = inner(differences(backend, perturbed(backend, found.state, masks, recipe), whole, recipe), recipe.margin)
    others = [j for j in maps.amax(dim=(1, 2)).argsort(descending=True).tolist() if j != k][:2]
    row(out / "method-difference.jpg", *(heat(maps[j]) for j in (k, *others)))

    labels = labels_at(maps, picture.height, picture.width).numpy()
    naive = labels_at(inner(masks, recipe.margin // point.stride), picture.height, picture.width).numpy()
    row(out / "method-labels.jpg", painted(naive, colours), painted(labels, colours), segmenter(picture).overlay())


def painted(labels: np.ndarray, colours: np.ndarray) -> Image.Image:
    """Labels in their colours."""
    return Image.fromarray(colours[labels])


def attention(photo: Path = PHOTOS / "coffee.jpg", out: Path = OUT) -> None:
    """Heat maps of the bundled model's tokens, and of where some positions of the photo look."""
    picture, segmenter = load_image(photo, 10**8), genseg.Segmenter("tiny", size=256)
    maps = segmenter.features(picture, kind="attention", timesteps=[101, 201, 301])
    cross = [each.mean(dim=0) for name, each in maps.items() if name.endswith("cross")]
    size = max((each.shape[1:] for each in cross), key=sum)
    tokens = torch.stack([F.interpolate(each[None], size, mode="bilinear")[0] for each in cross]).mean(dim=0)
    row(out / "attention-tokens.jpg", picture, *(over(tokens[index], picture) for index in (2, 3, 7, 8)))
    looks = maps["up1.1.self"].mean(dim=0)
    height, width = looks.shape[1:]
    places = [(int(y * height), int(x * width)) for y, x in ((0.25, 0.9), (0.8, 0.3), (0.5, 0.5))]
    shown = [over(looks[:, y, x].reshape(height, width), picture, (y, x)) for y, x in places]
    row(out / "attention-positions.jpg", picture, *shown)


def over(values: torch.Tensor, picture: Image.Image, mark: tuple[int, int] | None = None) -> Image.Image:
    """A map [h, w] over a picture, from dark for its least value to bright; a ring at the cell ``mark``."""
    scaled = (values - values.min()) / (values.max() - values.min())
    colors = Image.fromarray((matplotlib.colormaps["inferno"](scaled.numpy())[..., :3] * 255).astype(np.uint8))
    shown = Image.blend(picture, colors.resize(picture.size, Image.Resampling.BICUBIC), 0.6)
    if mark is not None:
        y, x = (
            (cell + 0.5) * side / cells for cell, side, cells in zip(mark, shown.size[::-1], values.shape, strict=True)
        )
        ImageDraw.Draw(shown).ellipse((x - 12, y - 12, x + 12, y + 12), outline="white", width=5)
    return shown


def grey(mask: torch.Tensor) -> Image.Image:
    """A mask in white on black."""
    return Image.fromarray((mask * 255).to(torch.uint8).numpy()).convert("RGB")


def heat(difference: torch.Tensor) -> Image.Image:
    """A difference map from nothing (black) to its largest change."""
    return Image.fromarray(np.uint8(255 * matplotlib.colormaps["inferno"](difference / difference.max())[..., :3]))


if __name__ == "__main__":
    examples()
    method()
    attention()
    gallery(PHOTOS, OUT)
