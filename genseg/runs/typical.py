"""Typical masks of the classes of a run: those whose embeddings are nearest to the center of their class."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.errors import GensegError
from genseg.runs.class_sets import load_centers
from genseg.runs.run import Run

TYPICAL = 8  # masks of a class
SIDE = 112  # pixels, at most, of a cutout
FADED = 0.8  # how far what is not of the mask fades to white
EMBEDDED = [f"masks.list.element.{name}" for name in ("label", "area", "embedding")]
PICTURED = ["key", "uri", "offset", "length", "image", "labels_png"]


class MaskPlace(NamedTuple):
    """Where a mask lies in a run: the shard, the key of the image, and the label."""

    shard: str
    key: str
    label: int


@dataclass(frozen=True)
class TypicalMasks:
    """Size of a class, and its most typical masks.

    Attributes:
        name: The class.
        masks: Number of its masks.
        pixels: Number of its pixels.
        places: Its most typical masks, `TYPICAL` at most, the nearest to the center first.
    """

    name: str
    masks: int
    pixels: int
    places: tuple[MaskPlace, ...]


class _Members(NamedTuple):
    """Masks of an image that have classes: their places, classes int (M,), areas int (M,), embeddings (M, C)."""

    places: list[MaskPlace]
    classes: npt.NDArray[np.int32]
    areas: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32]


def typical_masks(run: Run, classes: str) -> list[TypicalMasks]:
    """Find the masks of each class that are nearest to its center (Euclidean); memory does not grow with the run.

    The center is that by which the class was given or, for names by text, the mean embedding of its masks.

    Args:
        run: The run.
        classes: Name of the set of classes.

    Returns:
        The classes that have masks, those with most masks first.

    Raises:
        GensegError: If there are no such classes, images came after them, or their centers or embeddings are damaged.
    """
    names, centers = run.class_names(classes), load_centers(run, classes)
    if centers is None:
        centers = _means(run, classes, len(names))
    masks, pixels = np.zeros(len(names), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    nearest: list[list[tuple[float, int, MaskPlace]]] = [[] for _ in names]  # heaps, the farthest of each first
    order = count()
    for members in _members(run, classes):
        if members.embeddings.shape[1] != centers.shape[1]:
            raise GensegError(f"the centers of the classes {classes} are damaged; find or give the classes again")
        np.add.at(masks, members.classes, 1)
        np.add.at(pixels, members.classes, members.areas)
        distances = np.linalg.norm(members.embeddings - centers[members.classes], axis=1)
        for place, number, distance in zip(members.places, members.classes, distances.tolist(), strict=True):
            entry = (-distance, -next(order), place)
            if len(nearest[number]) < TYPICAL:
                heapq.heappush(nearest[number], entry)
            else:
                heapq.heappushpop(nearest[number], entry)
    return [
        TypicalMasks(names[k], int(masks[k]), int(pixels[k]), tuple(entry[2] for entry in sorted(nearest[k])[::-1]))
        for k in np.argsort(-masks, kind="stable").tolist()
        if masks[k]
    ]


def cutouts(run: Run, places: Iterable[MaskPlace]) -> dict[MaskPlace, Image.Image]:
    """Cut masks out of their images, without those whose image cannot be read; each image is read once."""
    wanted: dict[str, dict[str, list[MaskPlace]]] = {}
    for place in places:
        wanted.setdefault(place.shard, {}).setdefault(place.key, []).append(place)
    made: dict[MaskPlace, Image.Image] = {}
    for shard, keys in wanted.items():
        for row in run.rows(PICTURED, shards=[shard]):
            if not (chosen := keys.get(row.key)):
                continue
            try:
                labels, picture = row.labels, row.picture()
            except GensegError:  # damaged, moved since, or on another machine
                continue
            present = [place for place in chosen if place.label in labels]
            made |= {place: cutout(picture, labels == place.label) for place in present}
    return made


def cutout(picture: Image.Image, mask: npt.NDArray[np.bool_]) -> Image.Image:
    """Crop an image to a mask, with what is not of it faded to white.

    Args:
        picture: RGB, of the mask's size.
        mask: bool (H, W), with at least one pixel.

    Returns:
        RGB, at most `SIDE` pixels a side.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    crop = picture.crop(box)
    faded = Image.blend(crop, Image.new("RGB", crop.size, "white"), FADED)
    made = Image.composite(crop, faded, Image.fromarray(mask).crop(box))
    made.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return made


def _members(run: Run, classes: str) -> Iterator[_Members]:
    """Read the masks of each image that have classes.

    Raises:
        GensegError: If there are images without classes, or embeddings of different lengths.
    """
    lengths = set()
    for shard in run.shards:
        for row in run.rows(EMBEDDED, classes=classes, shards=[shard]):
            assert row.classes is not None
            masks = [mask for mask in row.masks if row.classes[mask.label] >= 0]
            if masks:
                lengths.add(len(masks[0].embedding))
                if len(lengths) > 1:
                    raise GensegError(f"the embeddings of {row.key} have another length; run the image again")
                yield _Members(
                    [MaskPlace(shard, row.key, mask.label) for mask in masks],
                    row.classes[[mask.label for mask in masks]],
                    np.array([mask.area for mask in masks]),
                    np.stack([mask.embedding for mask in masks]),
                )


def _means(run: Run, classes: str, n_classes: int) -> npt.NDArray[np.float32]:
    """Mean embedding of each class, float32 (N, C); 0 for a class without masks."""
    sums, masks = np.zeros((n_classes, 0)), np.zeros(n_classes)
    for members in _members(run, classes):
        if not sums.size:
            sums = np.zeros((n_classes, members.embeddings.shape[1]))
        np.add.at(sums, members.classes, members.embeddings)
        np.add.at(masks, members.classes, 1)
    return (sums / np.maximum(masks, 1)[:, None]).astype(np.float32)
