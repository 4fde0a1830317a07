"""Open vocabulary: segments named by the texts nearest to them (EmerDiff, section 4.4).

The text-aligned pixel embeddings of another model are averaged over each segment, and the segment gets the class whose
text embedding has the highest cosine with that mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from genseg.errors import GensegError
from genseg.images import model_size, to_tensor
from genseg.interface import Embedder

_QUALITIES = (
    "bad", "cropped", "bright", "dark", "close-up", "black and white", "pixelated", "jpeg corrupted", "blurry", "good",
    "low resolution",
)  # fmt: skip
_KINDS = ("sculpture", "rendering", "tattoo", "drawing", "painting", "doodle", "sketch", "rendition")
_OBJECTS = ("hard to see", "clean", "dirty", "cool", "weird", "nice", "large", "small")
_MATERIALS = ("plastic", "embroidered", "origami", "toy", "plushie", "cartoon")
IMAGENET_TEMPLATES = (
    *(f"a {quality} photo of {the} {{}}." for quality in _QUALITIES for the in ("a", "the")),
    *(f"a {kind} of {the} {{}}." for kind in _KINDS for the in ("a", "the")),
    *(f"{kind} of {the} {{}}." for kind in ("art", "graffiti", "itap") for the in ("a", "the")),
    *(f"a photo of {the} {adjective} {{}}." for adjective in _OBJECTS for the in ("a", "the")),
    *(f"a photo of {determiner} {{}}." for determiner in ("a", "the", "my", "one", "many")),
    *(f"{the} {material} {{}}." for material in _MATERIALS for the in ("a", "the")),
    "a {} in a video game.",
    "the {} in a video game.",
    "itap of my {}.",
)
"""The 80 prompts with which CLIP (Radford et al., 2103.00020) classifies ImageNet."""

SCENE_TEMPLATES = (
    *(f"{this} {{}} in the scene." for this in ("there is a", "there is the", "this is a", "this is the")),
    "this is one {} in the scene.",
)
"""What MaskCLIP (Zhou et al., 2112.01071) adds to them."""

TEMPLATES = IMAGENET_TEMPLATES + SCENE_TEMPLATES
"""The prompts used unless the caller gives others."""

_EMBEDDED: WeakKeyDictionary[Embedder, dict[tuple[tuple[str, ...], tuple[str, ...]], Tensor]] = WeakKeyDictionary()
"""Text embeddings by embedder, classes and templates: the same for every image of a data set."""


class Names(NamedTuple):
    """What segments are called.

    Attributes:
        names: One for each label 0..K-1: the class with the highest score; empty for a label that no pixel has.
        scores: float32 (K, N): cosines with the N classes; 0 for a label that no pixel has.
    """

    names: tuple[str, ...]
    scores: npt.NDArray[np.float32]


def classes_of(classes: str | Sequence[str]) -> tuple[str, ...]:
    """Names of classes, given as such or in one text with commas between them.

    Raises:
        GensegError: If there is none, one is empty, or two are the same.
    """
    names = tuple(name.strip() for name in (classes.split(",") if isinstance(classes, str) else classes))
    if not names or not all(name.strip("| ") for name in names):
        raise GensegError("a class has no name; give classes such as 'sky,building,tree'")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise GensegError(f"class {twice!r} is named twice; name each once")
    return names


def called_by(names: Sequence[str]) -> tuple[str, ...]:
    """What classes are called: of synonyms such as ``"car|automobile"``, the first."""
    return tuple(name.split("|")[0].strip() for name in names)


def class_embeddings(
    classes: Sequence[str], embedder: Embedder, templates: Sequence[str] | None = None
) -> npt.NDArray[np.float32]:
    """The text embedding of each class: the mean over all prompts of embeddings of length 1, scaled to length 1.

    Args:
        classes: Names; synonyms may be given as ``"car|automobile"``, whose prompts are averaged alike.
        embedder: The model; what it embeds is kept for as long as it lives.
        templates: Prompts with ``{}`` where the name goes; None for `TEMPLATES`.

    Returns:
        float32 (N, D).

    Raises:
        GensegError: For a template without ``{}``.
    """
    prompts = tuple(TEMPLATES if templates is None else templates)
    if not prompts or not all("{}" in prompt for prompt in prompts):
        raise GensegError("every template needs {} where the name goes, such as 'a photo of a {}.'")
    kept = _EMBEDDED.setdefault(embedder, {})
    key = (tuple(classes), prompts)
    if key not in kept:
        found = [  # class by class: all prompts of a large vocabulary at once would not fit
            F.normalize(embedder.texts([p.replace("{}", s.strip()) for s in name.split("|") for p in prompts]), dim=1)
            for name in classes
        ]
        kept[key] = F.normalize(torch.stack([rows.mean(dim=0) for rows in found]), dim=1)
    embeddings: npt.NDArray[np.float32] = kept[key].numpy()
    return embeddings


def mask_embeddings(labels: npt.NDArray[np.integer], pixels: Tensor) -> npt.NDArray[np.float32]:
    """The mean over each segment of its pixels' embeddings.

    Args:
        labels: (H, W) in 0..K-1.
        pixels: [D, h, w]; each pixel of ``labels`` has the embedding of the cell that its centre lies in.

    Returns:
        float32 (K, D); zero for a label that no pixel has.
    """
    dim, h, w = pixels.shape
    rows, columns = ((np.arange(n) * 2 + 1) * cells // (2 * n) for n, cells in zip(labels.shape, (h, w), strict=True))
    cells = rows[:, None] * w + columns
    n_labels = int(labels.max()) + 1
    counts = np.bincount((labels * (h * w) + cells).ravel(), minlength=n_labels * h * w).reshape(n_labels, h * w)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    means: npt.NDArray[np.float32] = shares.astype(np.float32) @ pixels.float().reshape(dim, h * w).numpy().T
    return means


def name_masks(
    labels: npt.NDArray[np.integer],
    image: Image.Image,
    classes: str | Sequence[str],
    embedder: Embedder,
    templates: Sequence[str] | None = None,
) -> Names:
    """Name the segments of an image.

    Args:
        labels: (H, W) in 0..K-1, of the image's own size or any other.
        image: RGB.
        classes: Names, or one text with commas between them; synonyms as ``"car|automobile"``, called by the first.
        embedder: The model that pixels and texts are compared by.
        templates: Prompts with ``{}`` where the name goes; None for `TEMPLATES`.

    Raises:
        GensegError: If a class has no name or is named twice, or a template has no ``{}``.
    """
    names = classes_of(classes)
    texts = class_embeddings(names, embedder, templates)
    size = model_size(*image.size, embedder.image_size, embedder.size_multiple, "area")
    masks = mask_embeddings(labels, embedder.pixels(to_tensor(image, size)))
    scores = masks / np.maximum(np.linalg.norm(masks, axis=1, keepdims=True), 1e-12) @ texts.T
    present = np.isin(np.arange(len(masks)), labels)
    called, best = called_by(names), scores.argmax(axis=1)
    return Names(tuple(called[k] if here else "" for k, here in zip(best, present, strict=True)), scores)


def named_classes(
    segments: npt.NDArray[np.integer], image: Image.Image, class_names: Sequence[str], embedder: Embedder
) -> npt.NDArray[np.int64]:
    """The class of each segment, for the open-vocabulary protocol: int64 (K,) in 0..N-1; -1 where no pixel is.

    Args:
        segments: (H, W) in 0..K-1.
        image: RGB.
        class_names: The data set's; their embeddings are computed once for each embedder.
        embedder: The model that pixels and texts are compared by.
    """
    names, scores = name_masks(segments, image, class_names, embedder)
    return np.where([name == "" for name in names], -1, scores.argmax(axis=1))
