"""Open-vocabulary naming: the class whose text embedding is nearest to a segment's (EmerDiff, section 4.4).

The text-aligned pixel embeddings of another model are averaged over each segment. The segment gets the class whose text
embedding has the highest cosine similarity with that mean.
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
from genseg.registry import load_embedder

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
"""The five prompts that MaskCLIP (Zhou et al., 2112.01071) adds."""

TEMPLATES = IMAGENET_TEMPLATES + SCENE_TEMPLATES
"""The default prompts."""

_TEXT_CACHE: WeakKeyDictionary[Embedder, dict[tuple[tuple[str, ...], tuple[str, ...]], Tensor]] = WeakKeyDictionary()
"""Text embeddings by embedder, classes and templates, which are the same for every image of a dataset."""


class Names(NamedTuple):
    """Names of the segments of an image.

    Attributes:
        names: For each label 0..K-1 the class with the highest score; empty for a label without pixels.
        scores: float32 (K, N): cosine similarities with the N classes, in [-1, 1]; 0 for a label without pixels.
    """

    names: tuple[str, ...]
    scores: npt.NDArray[np.float32]


def classes_of(classes: str | Sequence[str]) -> tuple[str, ...]:
    """Parse class names.

    Args:
        classes: Names, or one text with commas between them.

    Raises:
        GensegError: If there is no name, a first synonym is empty, or two are the same.
    """
    names = tuple(name.strip() for name in (classes.split(",") if isinstance(classes, str) else classes))
    first = first_synonyms(names)
    if not names or not all(first):
        raise GensegError("a class has no name; give classes such as 'sky,building,tree'")
    if twice := next((name for name in first if first.count(name) > 1), None):
        raise GensegError(f"class {twice!r} is named twice; name each once")
    return names


def first_synonyms(names: Sequence[str]) -> tuple[str, ...]:
    """Return the first synonym of each class, such as ``"car"`` of ``"car|automobile"``."""
    return tuple(name.split("|")[0].strip() for name in names)


def class_embeddings(
    classes: Sequence[str], embedder: Embedder, templates: Sequence[str] | None = None
) -> npt.NDArray[np.float32]:
    """Embed class names: the normalised mean of the normalised text embeddings of all prompts.

    Args:
        classes: Names; the prompts of synonyms, such as ``"car|automobile"``, are averaged.
        embedder: The model; its text embeddings are cached for as long as it lives.
        templates: Prompts with ``{}`` where the name goes; None for `TEMPLATES`.

    Returns:
        float32 (N, D).

    Raises:
        GensegError: If a template has no ``{}``.
    """
    prompts = tuple(TEMPLATES if templates is None else templates)
    if not prompts or not all("{}" in prompt for prompt in prompts):
        raise GensegError("every template needs {} where the name goes, such as 'a photo of a {}.'")
    cache = _TEXT_CACHE.setdefault(embedder, {})
    key = (tuple(classes), prompts)
    if key not in cache:
        texts = [  # class by class: all prompts of a large vocabulary at once would not fit
            F.normalize(embedder.texts([p.replace("{}", s.strip()) for s in name.split("|") for p in prompts]), dim=1)
            for name in classes
        ]
        cache[key] = F.normalize(torch.stack([prompt_texts.mean(dim=0) for prompt_texts in texts]), dim=1)
    embeddings: npt.NDArray[np.float32] = cache[key].numpy()
    return embeddings


def mask_embeddings(labels: npt.NDArray[np.integer], pixels: Tensor) -> npt.NDArray[np.float32]:
    """Average pixel embeddings over each segment.

    Args:
        labels: Segments (H, W) in 0..K-1.
        pixels: Embeddings [D, h, w]; each pixel of ``labels`` has the embedding of the cell that its centre lies in.

    Returns:
        float32 (K, D); 0 for a label without pixels.
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
    embedder: str | Embedder,
    templates: Sequence[str] | None = None,
) -> Names:
    """Name the segments of an image.

    Args:
        labels: Segments (H, W) in 0..K-1, at any resolution.
        image: The image, in RGB.
        classes: Names, or one text with commas between them; of synonyms, as ``"car|automobile"``, the first is used.
        embedder: The model that embeds pixels and texts: a name from `genseg.list_embedders`, or a loaded one, which is
            quicker for many images.
        templates: Prompts with ``{}`` where the name goes; None for `TEMPLATES`.

    Returns:
        A name for each segment, and its scores.

    Raises:
        GensegError: If a class has no name or is named twice, a template has no ``{}``, or there is no such embedder or
            its weights are missing.
    """
    names = classes_of(classes)  # refuse those that cannot be used before a model is loaded
    embedder = load_embedder(embedder) if isinstance(embedder, str) else embedder
    texts = class_embeddings(names, embedder, templates)
    size = model_size(*image.size, embedder.image_size, embedder.size_multiple, "area")
    masks = mask_embeddings(labels, embedder.pixels(to_tensor(image, size)))
    scores = masks / np.maximum(np.linalg.norm(masks, axis=1, keepdims=True), 1e-12) @ texts.T
    present = np.isin(np.arange(len(masks)), labels)
    names, best = first_synonyms(names), scores.argmax(axis=1)
    return Names(tuple(names[k] if here else "" for k, here in zip(best, present, strict=True)), scores)


def named_classes(
    segments: npt.NDArray[np.integer], image: Image.Image, class_names: Sequence[str], embedder: Embedder
) -> npt.NDArray[np.int64]:
    """Assign a class to each segment, for the open-vocabulary protocol.

    Args:
        segments: Segments (H, W) in 0..K-1.
        image: The image, in RGB.
        class_names: The classes of the dataset; their embeddings are computed once for each embedder.
        embedder: The model that embeds pixels and texts.

    Returns:
        int64 (K,) in 0..N-1; -1 for a segment without pixels.
    """
    names, scores = name_masks(segments, image, class_names, embedder)
    return np.where([name == "" for name in names], -1, scores.argmax(axis=1))
