"""What do the segments look like? Sheets of a few photos: the photo, the default, and an encoder's clusters.

    python benchmarks/looks.py --data FOLDER [--model FOLDER] [--encoder NAME --encoder-model FOLDER] --out FOLDER

FOLDER/SET/images/*.jpg: every 25th photo by name is shown, four a set, and the example photos. The photos of the sets
are not genseg's to give away: look at the sheets, describe them in docs/tiny.md, and commit none.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import genseg
from genseg.cluster import cluster, masks_of
from genseg.display.palette import palette
from genseg.interface import Encoder
from genseg.modulate import labels_and_confidence
from genseg.pipeline import read
from genseg.recipe import Recipe
from genseg.registry import ENCODERS
from genseg.segmentation import Segmentation
from genseg.upsampling.upsample import refined

EXAMPLES = Path(__file__).parents[1] / "examples" / "images"
SETS = ("camvid", "facade", "bsds")
EVERY, A_SET = 25, 4
HEIGHT, GAP = 320, 6


def chosen(data: Path) -> list[Path]:
    """The photos that are shown."""
    photos = [path for name in SETS for path in sorted((data / name / "images").glob("*.jpg"))[::EVERY][:A_SET]]
    return photos + sorted(EXAMPLES.glob("*.jpg"))


def by_encoder(encoder: Encoder, like: Segmentation, recipe: Recipe) -> Image.Image:
    """The overlay of an encoder's clusters, upsampled and refined as the recipe says."""
    pixels = read(like.image, recipe, encoder.image_size, encoder.size_multiple).pixels
    grid_labels, embeddings = cluster(encoder.features(pixels), recipe)
    maps = refined(masks_of(grid_labels, len(embeddings)), pixels, recipe.refine)
    labels, confidence = (result.numpy() for result in labels_and_confidence(maps, *like.labels.shape))
    clusters = replace(
        like,
        labels=labels,
        grid_labels=grid_labels,
        embeddings=embeddings,
        colors=palette(len(embeddings)),
        confidence=confidence.astype(np.float16),
    )
    return (clusters.merge("auto") if recipe.n_clusters == "auto" else clusters).overlay()


def sheet(pictures: list[Image.Image]) -> Image.Image:
    """Pictures side by side."""
    scaled = [picture.resize((round(HEIGHT * picture.width / picture.height), HEIGHT)) for picture in pictures]
    row = Image.new("RGB", (sum(picture.width + GAP for picture in scaled) - GAP, HEIGHT), "white")
    for picture, left in zip(scaled, np.cumsum([0, *(picture.width + GAP for picture in scaled)]), strict=False):
        row.paste(picture, (int(left), 0))
    return row


def main() -> None:
    """Write a sheet for each photo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", help="a checkpoint of tiny in place of the one that ships")
    parser.add_argument("--encoder", default="dinov2")
    parser.add_argument("--encoder-model", help="without it, no encoder is shown")
    parser.add_argument("--out", type=Path, default=Path("looks"))
    parser.add_argument("options", nargs="*", metavar="key=value", help="recipe keys")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    backend = genseg.load_backend("tiny", model=args.model)
    default = genseg.Segmenter(backend, backend.resolve(options=args.options))
    encoder = ENCODERS.load(args.encoder, model=args.encoder_model) if args.encoder_model else None
    for path in chosen(args.data):
        segmentation = default(path)
        pictures = [Image.fromarray(segmentation.image), segmentation.overlay()]
        if encoder is not None:
            recipe = backend.resolve(options=args.options, size=encoder.image_size, position=0.0)
            pictures.append(by_encoder(encoder, segmentation, recipe))
        sheet(pictures).save(args.out / f"{path.stem}.jpg", quality=88)
        print(f"{path.stem}: {segmentation.n_segments} segments", flush=True)


if __name__ == "__main__":
    main()
