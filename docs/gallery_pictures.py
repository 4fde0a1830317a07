"""The pictures docs/images/gallery-*.jpg, drawn from what the commands of docs/gallery.md write."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_masks

import genseg
from genseg.cli import app
from genseg.evaluation.agreement import matched_colors
from genseg.runs.typical import TYPICAL, cutout, cutouts, typical_masks
from genseg.segmentation.hierarchy import LEVELS
from sheets import GAP, grid, row

DETAIL = (90, 0, 346, 256)  # of the photo, in the picture of refinement


def gallery(photos: Path, out: Path) -> None:
    """Run the commands, most of them on the astronaut, and draw what they write."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shutil.copytree(photos, "photos", ignore=shutil.ignore_patterns("*.md"))
        shutil.copy(photos / "astronaut.jpg", "photo.jpg")
        run("segment photo.jpg --save overlay,labels,npz,coco,labelme --out masks")
        segments(out)
        run("segment photo.jpg refine=none --save overlay --out unrefined")
        details = [Image.open(f"{name}/photo.overlay.png").crop(DETAIL) for name in ("unrefined", "masks")]
        row(out / "gallery-refine.jpg", Image.open("photo.jpg").crop(DETAIL), *details)
        run("segment photos/chelsea.jpg --clusters 25 --save npz --out fine")
        fine = genseg.Segmentation.load("fine/chelsea.npz")
        row(out / "gallery-merge.jpg", *(fine.merge(n).overlay() for n in (12, 6, 3)))
        row(out / "gallery-hierarchy.jpg", *(fine.cut(height).overlay() for height in LEVELS.values()))
        run("run photos/ --clusters 25 --out run")
        run("concepts run --k 5")
        concepts(genseg.Run("run")).save(out / "gallery-concepts.jpg", quality=85)
        compare(out / "gallery-compare.jpg")


def run(command: str) -> None:
    """Run a command of genseg."""
    app(shlex.split(command), standalone_mode=False)


def segments(out: Path) -> None:
    """Draw the files of one photo."""
    seg = genseg.Segmentation.load("masks/photo.npz")
    photo, overlay = Image.fromarray(seg.image), Image.open("masks/photo.overlay.png")
    row(out / "gallery-segment.jpg", photo, overlay, Image.open("masks/photo.labels.png").convert("RGB"))
    grid([cutout(photo, mask.segmentation) for mask in seg.masks()[:12]], 6).save(out / "gallery-masks.jpg", quality=85)
    row(out / "gallery-files.jpg", photo, coco(photo, seg.colors), labelme(photo, seg.colors))
    gray = matplotlib.colormaps["gray"](seg.confidence.astype(float))[..., :3]
    ignored = np.where(seg.confident_labels(0.2)[..., None] < 0, 255, np.asarray(overlay))
    row(
        out / "gallery-confidence.jpg", photo, Image.fromarray(np.uint8(255 * gray)), Image.fromarray(np.uint8(ignored))
    )


def coco(photo: Image.Image, colors: np.ndarray) -> Image.Image:
    """The masks of a COCO file over the photo, as pycocotools reads them, with their boxes."""
    annotations = json.loads(Path("masks/photo.coco.json").read_text())["annotations"]
    pixels = np.asarray(photo).astype(float)
    for annotation in annotations:
        runs = coco_masks.frPyObjects(annotation["segmentation"], *annotation["segmentation"]["size"])
        mask = coco_masks.decode(runs).astype(bool)
        pixels[mask] = pixels[mask] / 2 + colors[annotation["id"] - 1] / 2
    drawn = Image.fromarray(np.uint8(pixels))
    for annotation in annotations:
        (left, top, width, height), color = annotation["bbox"], colors[annotation["id"] - 1]
        box = (left, top, left + width - 1, top + height - 1)
        ImageDraw.Draw(drawn).rectangle(box, outline=tuple(color.tolist()), width=3)
    return drawn


def labelme(photo: Image.Image, colors: np.ndarray) -> Image.Image:
    """The polygons of a labelme file over the photo; shapes that are masks have none."""
    shapes, drawn = json.loads(Path("masks/photo.json").read_text())["shapes"], photo.copy()
    for shape in shapes:
        if shape["shape_type"] == "polygon":
            ring = [tuple(point) for point in (*shape["points"], shape["points"][0])]
            ImageDraw.Draw(drawn).line(ring, fill=tuple(colors[shape["group_id"]].tolist()), width=4, joint="curve")
    return drawn


def concepts(photos: genseg.Run) -> Image.Image:
    """The typical masks of each concept, as the run's report shows them."""
    found = typical_masks(photos, "concepts-5")
    pictures = cutouts(photos, [place for each in found for place in each.places])
    total, side, line = sum(each.pixels for each in found), 88, 22
    sheet = Image.new("RGB", (TYPICAL * (side + GAP) - GAP, len(found) * (side + line + GAP)), "white")
    for y, each in enumerate(found):
        top, said = y * (side + line + GAP), f"{each.pixels / total:.0%} of the pixels, {each.masks} masks"
        ImageDraw.Draw(sheet).text((0, top), f"{each.name}: {said}", "black", ImageFont.load_default(14))
        for x, place in enumerate(each.places):
            picture = pictures[place]
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            middle = (side - picture.width) // 2, line + (side - picture.height) // 2
            sheet.paste(picture, (x * (side + GAP) + middle[0], top + middle[1]))
    return sheet


def compare(path: Path) -> None:
    """A photo by the bundled model and by the same network before it was trained, in matching colors."""
    untrained = genseg.load_backend("tiny")
    untrained.name = "untrained"
    torch.manual_seed(0)
    for module in untrained.network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    comparison = genseg.compare(["photos/chelsea.jpg"], ["tiny", untrained], n_clusters=8)
    first, second = (comparison.segmentation("chelsea", name) for name in comparison.recipes)
    colors = matched_colors(second.labels, first.labels, max(len(first.colors), len(second.colors)))
    row(path, Image.fromarray(first.image), first.overlay(), replace(second, colors=colors).overlay())
