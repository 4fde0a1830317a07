"""Result of a segmentation: labels, where they came from, and how to use them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import find_boundaries

from genseg.cost import Cost
from genseg.display.captions import captioned
from genseg.display.html import pictures
from genseg.errors import GensegError
from genseg.files import Layout, read_arrays, write_whole
from genseg.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from genseg.interface import Embedder

FORMAT = 1  # of .npz files
LAYOUT: Layout = {
    "labels": (np.int32, "HW"),
    "grid_labels": (np.int32, "hw"),
    "embeddings": (np.float32, "KC"),
    "colors": (np.uint8, "K3"),
    "image": (np.uint8, "HW3"),
    "scores?": (np.float32, "KYX"),
    "confidence?": (np.float16, "HW"),
}
ARRAYS = tuple(name.rstrip("?") for name in LAYOUT)
SHOWN = 400  # pixels: width of a picture in a notebook, at most


@dataclass(frozen=True)
class Segmentation:
    """One image's segments.

    Attributes:
        labels: int32 (H, W) at the input image's own resolution, every pixel in 0..K-1.
        grid_labels: int32 (h, w): the low-resolution clusters.
        embeddings: float32 (K, C): mean tap feature of each cluster.
        colors: uint8 (K, 3): the colour of each label.
        image: uint8 (H, W, 3): the input, upright and in RGB.
        scores: float32 (K, H', W') difference maps at the model's resolution, as the argmax took them; None unless
            the recipe's `keep_scores` asked for them.
        cost: What it took.
        recipe: The resolved recipe; with `backend` and `seed`, what it takes to get the same result again.
        backend: Name of the backend.
        seed: The seed.
        names: What each label is called, once `name` has been asked; empty for a label that no pixel has.
        confidence: float16 (H, W) in [0, 1]: how far the pixel's largest difference is ahead of its second largest,
            as a part of the largest; a lower bound once segments are merged. None in files from before there was one.
    """

    labels: npt.NDArray[np.int32]
    grid_labels: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]
    colors: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32] | None
    cost: Cost
    recipe: Recipe
    backend: str
    seed: int
    names: tuple[str, ...] | None = None
    confidence: npt.NDArray[np.float16] | None = None

    @property
    def n_segments(self) -> int:
        """Number of labels that at least one pixel has."""
        return len(np.unique(self.labels))

    def name(
        self,
        classes: str | Sequence[str],
        embedder: str | Embedder = "maskclip",
        templates: Sequence[str] | None = None,
    ) -> Segmentation:
        """Name each segment by the class whose text is nearest to its pixels (EmerDiff, section 4.4).

        Args:
            classes: Names, or one text such as ``"sky,building,tree"``; synonyms as ``"car|automobile"``.
            embedder: A name from `genseg.list_embedders`, or a loaded `Embedder`, which is quicker for many images.
            templates: Prompts with ``{}`` where the name goes; None for `genseg.naming.TEMPLATES`.

        Raises:
            GensegError: For an unknown embedder, missing weights, or classes or templates that cannot be used.
        """
        from genseg.naming import classes_of, name_masks
        from genseg.registry import load_embedder

        classes = classes_of(classes)  # refuse those that cannot be used before a model is loaded
        model = load_embedder(embedder) if isinstance(embedder, str) else embedder
        named = name_masks(self.labels, Image.fromarray(self.image), classes, model, templates)
        missing = len(self.colors) - len(named.names)  # the last labels may have no pixel
        return replace(self, names=named.names + ("",) * missing)

    @property
    def classes(self) -> tuple[str, ...]:
        """Distinct names, in the order of the first label of each.

        Raises:
            GensegError: If the segments have no names.
        """
        if self.names is None:
            raise GensegError("the segments have no names; call name(classes) first")
        return tuple(name for name in dict.fromkeys(self.names) if name)

    @property
    def class_labels(self) -> npt.NDArray[np.int32]:
        """int32 (H, W): which of `classes` each pixel's segment is called; segments of one name are one class here.

        Raises:
            GensegError: If the segments have no names.
        """
        classes = self.classes
        assert self.names is not None
        return np.array([classes.index(name) if name else -1 for name in self.names], dtype=np.int32)[self.labels]

    @property
    def mask_confidence(self) -> npt.NDArray[np.float32]:
        """float32 (K,): the mean confidence of each label's pixels; 0 for a label that no pixel has.

        Raises:
            GensegError: If there is no confidence.
        """
        sums = np.bincount(self.labels.ravel(), self._known_confidence().ravel(), minlength=len(self.colors))
        counts = np.bincount(self.labels.ravel(), minlength=len(self.colors))
        return (sums / np.maximum(counts, 1)).astype(np.float32)

    def confident_labels(self, threshold: float) -> npt.NDArray[np.int32]:
        """int32 (H, W): the labels, -1 for "ignore" where the confidence is below ``threshold``, in [0, 1].

        Raises:
            GensegError: If there is no confidence.
        """
        return np.where(self._known_confidence() < threshold, np.int32(-1), self.labels)

    def _known_confidence(self) -> npt.NDArray[np.float16]:
        if self.confidence is None:
            raise GensegError("these segments were saved without confidence; segment the image again")
        return self.confidence

    def merge(self, n_segments: int) -> Segmentation:
        """Coarser segments from the merge tree over embeddings (Ward linkage); no model call.

        Labels without pixels are left out of the tree. Merges are nested: a cut into fewer segments only joins
        segments of a cut into more. A merged segment has the colour and the name of its largest part.

        Args:
            n_segments: How many segments to keep.

        Returns:
            A new segmentation with labels 0..n_segments-1.

        Raises:
            GensegError: If ``n_segments`` is below 1 or above the number of segments there are.
        """
        present, sizes = np.unique(self.labels, return_counts=True)
        if not 1 <= n_segments <= len(present):
            raise GensegError(
                f"merge needs a number from 1 to {len(present)}, the segments there are, not {n_segments}"
            )
        from genseg.cluster import merge_groups

        groups = merge_groups(self.embeddings, present, n_segments)
        members = [present[groups[present] == group] for group in range(n_segments)]
        size_of = dict(zip(present.tolist(), sizes.tolist(), strict=True))
        largest = [max(m.tolist(), key=size_of.__getitem__) for m in members]
        return replace(
            self,
            labels=groups[self.labels],
            grid_labels=groups[self.grid_labels],
            embeddings=np.stack(
                [np.average(self.embeddings[m], axis=0, weights=[size_of[k] for k in m.tolist()]) for m in members]
            ).astype(np.float32),
            colors=self.colors[largest],
            scores=None if self.scores is None else np.stack([self.scores[m].max(axis=0) for m in members]),
            names=None if self.names is None else tuple(self.names[k] for k in largest),
        )

    def overlay(self, opacity: float = 0.5) -> Image.Image:
        """Draw the segments' colors, names and boundaries over the image; RGB at the image's own size."""
        mixed = (1 - opacity) * self.image + opacity * self.colors[self.labels]
        mixed[find_boundaries(self.labels, mode="thick")] = 255
        picture = Image.fromarray(mixed.round().astype(np.uint8))
        return picture if self.names is None else captioned(picture, self.labels, self.names)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the overlay into a matplotlib axes (a new one for None) and return it."""
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.subplots(layout="constrained")[1]
        ax.imshow(self.overlay())
        ax.set_axis_off()
        ax.set_title(f"{self.backend}, {self.n_segments} segments")
        return ax

    def save(self, path: str | Path) -> Path:
        """Write the segmentation; the suffix says how.

        ``.png``: the label map, indexed, each label its palette colour; in 16-bit grey where there are more than 256
        labels. ``.npz``: everything, for `load`.

        Raises:
            GensegError: For another suffix, or an unwritable file.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".png":
            is_indexed = len(self.colors) <= 256
            picture = Image.fromarray(self.labels.astype(np.uint8 if is_indexed else np.uint16))
            if is_indexed:
                picture.putpalette(self.colors.tobytes())
            write_whole(path, lambda file: picture.save(file, format="PNG"))
        elif suffix == ".npz":
            meta = {"format": FORMAT, "backend": self.backend, "seed": self.seed, "names": self.names}
            meta |= {"recipe": asdict(self.recipe), "cost": asdict(self.cost)}
            arrays = {name: getattr(self, name) for name in ARRAYS if getattr(self, name) is not None}
            write_whole(
                path, lambda file: np.savez_compressed(file, allow_pickle=False, meta=json.dumps(meta), **arrays)
            )
        else:
            raise GensegError(
                f"cannot save as {path.suffix or 'a file without suffix'}; use .png (labels) or .npz (everything)"
            )
        return path

    @staticmethod
    def load(path: str | Path) -> Segmentation:
        """Read what `save` wrote as ``.npz``.

        Raises:
            GensegError: If the file is missing, damaged, or of another kind.
        """
        path = Path(path)
        try:
            meta: dict[str, Any] = json.loads(str(read_arrays(path, {"meta": (np.str_, "")})["meta"]))
            if meta["format"] != FORMAT:
                raise GensegError(
                    f"{path} was saved by another version of genseg (format {meta['format']}); upgrade genseg"
                )
            arrays = read_arrays(path, LAYOUT)
            _check_values(arrays)
            names = meta.get("names")  # absent in files from before segments had names
            if names is not None and len(names) != len(arrays["colors"]):
                raise ValueError("there must be a name for each label")
            return Segmentation(
                **{"scores": None, "confidence": None, **arrays},
                recipe=load_recipe(meta["recipe"]),
                cost=Cost(**meta["cost"]),
                backend=str(meta["backend"]),
                seed=int(meta["seed"]),
                names=None if names is None else tuple(map(str, names)),
            )
        except GensegError:
            raise
        except FileNotFoundError as error:
            raise GensegError(f"{path} does not exist; check the path") from error
        except Exception as error:  # zipfile, json or numpy, on a file that is not ours
            raise GensegError(f"{path} is not a segmentation that genseg saved ({error}); save it again") from error

    def resized(self, width: int) -> Segmentation:
        """Scale image and labels down to at most ``width`` pixels wide; draw boundaries after, or they fade."""
        rows, columns = self.labels.shape
        size = (min(columns, width), max(round(rows * min(width / columns, 1)), 1))
        image = Image.fromarray(self.image).resize(size, Image.Resampling.LANCZOS)
        labels = Image.fromarray(self.labels).resize(size, Image.Resampling.NEAREST)
        return replace(self, image=np.asarray(image), labels=np.asarray(labels))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.resized(SHOWN).overlay().save(buffer, format="PNG")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        shown, (height, width) = self.resized(SHOWN), self.labels.shape
        facts = f"{self.backend}, {self.n_segments} segments, {width}×{height} pixels, seed {self.seed}"
        spent = f"{sum(self.cost.seconds.values()):.1f} s, {self.cost.evaluations} model evaluations"
        return pictures([Image.fromarray(shown.image), shown.overlay()], f"{facts}; {spent}")


def _check_values(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    last = len(arrays["colors"]) - 1
    for name, most in {"labels": last, "grid_labels": last, "confidence": 1}.items():
        if name in arrays and not (arrays[name].min() >= 0 and arrays[name].max() <= most):
            raise ValueError(f"{name} must lie in [0, {most}]")
    if not np.isfinite(arrays["embeddings"]).all():
        raise ValueError("embeddings are not finite")
