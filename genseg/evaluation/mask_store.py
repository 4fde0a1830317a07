"""Masks and ground truth of an evaluation on disk, one file per image, so that a killed run loses at most one image."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.method import Masks
from genseg.evaluation.metrics import Labels
from genseg.files import Layout, read_arrays, write_arrays, write_whole
from genseg.parts import components
from genseg.segmentation.tree import Tree

SETTINGS = "settings.json"

MASKS: Layout = {
    "segments": (np.int32, "hw"), "embeddings?": (np.float32, "kc"), "named?": (np.int64, "k"),
    "merges?": (np.int64, "mp"), "heights?": (np.float64, "m"),
}  # fmt: skip
"""Arrays of a file of masks."""


class MethodMasks(NamedTuple):
    """One method's masks of one image.

    Attributes:
        masks: The masks.
        named: int64 [K], the class by which an embedder named each mask; None without an embedder.
    """

    masks: Masks
    named: npt.NDArray[np.int64] | None


class MaskStore:
    """A folder of masks and ground truth.

    Layout: ``settings.json``, ``truths/KEY.npz``, ``masks/METHOD/KEY.npz``.

    Args:
        folder: The folder, which need not exist.
        settings: Everything that masks depend on, except the method.

    Raises:
        GensegError: If the folder holds masks of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self._settings = folder, json.loads(json.dumps(settings))
        try:
            stored = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise GensegError(f"{folder / SETTINGS} cannot be read; choose another output folder") from error
        if stored != self._settings:
            keys = [key for key in self._settings | stored if self._settings.get(key) != stored.get(key)]
            raise GensegError(
                f"{folder} holds an evaluation with another {' and '.join(keys)}; choose another output folder"
            )

    def begin(self) -> None:
        """Write the settings, before the first masks are saved.

        Raises:
            GensegError: If the folder cannot be written to.
        """
        text = json.dumps(self._settings, indent=2) + "\n"
        write_whole(self.folder / SETTINGS, lambda file: file.write(text.encode()))

    def has(self, method: str, key: str) -> bool:
        """Return whether a method's masks of an image are there."""
        return self._masks_path(method, key).exists()

    def has_truths(self, key: str) -> bool:
        """Return whether the ground truth of an image is there."""
        return self._truths_path(key).exists()

    def save_truths(self, key: str, truths: Sequence[Labels]) -> None:
        """Save an image's ground truth maps [H, W], at the resolution of the evaluation."""
        arrays = {f"truth{i}": _compact(truth) for i, truth in enumerate(truths)}
        write_arrays(self._truths_path(key), arrays)

    def save(self, method: str, key: str, result: MethodMasks) -> None:
        """Save a method's masks of an image."""
        arrays: dict[str, npt.NDArray[Any]] = {"segments": result.masks.segments.astype(np.uint16)}
        if result.masks.embeddings is not None:
            arrays["embeddings"] = result.masks.embeddings
        if result.named is not None:
            arrays["named"] = result.named
        if result.masks.tree is not None:
            arrays |= {"merges": result.masks.tree.merges, "heights": result.masks.tree.heights}
        write_arrays(self._masks_path(method, key), arrays)

    def truths(self, key: str) -> list[npt.NDArray[np.int32]]:
        """Load an image's ground truth maps [H, W].

        Raises:
            GensegError: If the file is damaged.
        """
        path = self._truths_path(key)
        with _reading(path):
            with zipfile.ZipFile(path) as archive:
                names = [f"truth{i}" for i in range(len(archive.namelist()))]
            return list(read_arrays(path, dict.fromkeys(names, (np.int32, "hw"))).values())

    def masks(self, method: str, key: str) -> MethodMasks:
        """Load a method's masks of an image.

        Raises:
            GensegError: If the file is damaged.
        """
        path = self._masks_path(method, key)
        with _reading(path):
            arrays = read_arrays(path, MASKS)
            tree = Tree(arrays["merges"], arrays["heights"]) if "merges" in arrays else None
            masks = Masks(arrays["segments"], arrays.get("embeddings"), tree)
            count = int(masks.segments.max()) + 1
            if any(len(rows) != count for rows in (masks.embeddings, arrays.get("named")) if rows is not None):
                raise ValueError("there must be an embedding and a class for each segment")
            if tree is not None and tree.n_regions != int(components(masks.segments).max()) + 1:
                raise ValueError("there must be a merge for each connected part but one")
            return MethodMasks(masks, arrays.get("named"))

    def _truths_path(self, key: str) -> Path:
        return self.folder / "truths" / f"{key}.npz"

    def _masks_path(self, method: str, key: str) -> Path:
        return self.folder / "masks" / method / f"{key}.npz"


def _compact(labels: Labels) -> Labels:
    """Return labels in the smallest signed type that has all of them."""
    return labels.astype(np.min_scalar_type(min(int(labels.min()), ~int(labels.max()))))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the cure of a file that cannot be read."""
    try:
        yield
    except Exception as error:  # zipfile, zlib or numpy, on a file that is damaged or not ours
        raise GensegError(f"{path} is damaged; remove it and run the evaluation again") from error
