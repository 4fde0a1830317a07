"""The masks and truths of an evaluation on disk, one file an image, so that a killed run loses one image at most."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.method import Masks
from genseg.evaluation.metrics import Labels
from genseg.files import write_whole

SETTINGS = "settings.json"


class MethodMasks(NamedTuple):
    """One method's masks of one image, and the class each was given by name, int64 [K], if any were asked for."""

    masks: Masks
    named: npt.NDArray[np.int64] | None


class MaskStore:
    """A folder of masks and truths.

    Layout: ``settings.json``, ``truths/KEY.npz``, ``masks/METHOD/KEY.npz``.

    Args:
        folder: Where they are; it need not exist.
        settings: All that masks depend on, but the method.

    Raises:
        GensegError: If the folder holds masks of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self._settings = folder, json.loads(json.dumps(settings))
        wanted = self._settings
        try:
            found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise GensegError(f"{folder / SETTINGS} cannot be read; choose another output folder") from error
        if found != wanted:
            keys = [key for key in wanted | found if wanted.get(key) != found.get(key)]
            raise GensegError(
                f"{folder} holds an evaluation with another {' and '.join(keys)}; choose another output folder"
            )

    def begin(self) -> None:
        """Say what masks the folder will hold, before the first is kept.

        Raises:
            GensegError: If it cannot be written to.
        """
        text = json.dumps(self._settings, indent=2) + "\n"
        write_whole(self.folder / SETTINGS, lambda file: file.write(text.encode()))

    def has(self, method: str, key: str) -> bool:
        """Whether a method's masks of an image are there."""
        return self._masks(method, key).exists()

    def has_truth(self, key: str) -> bool:
        """Whether an image's truths are there."""
        return self._truth(key).exists()

    def keep_truth(self, key: str, truths: Sequence[Labels]) -> None:
        """Keep an image's truths, [H, W] each, at the resolution of the evaluation."""
        arrays = {f"truth{i}": truth.astype(np.int32) for i, truth in enumerate(truths)}
        write_whole(self._truth(key), lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))

    def keep(self, method: str, key: str, row: MethodMasks) -> None:
        """Keep a method's masks of an image."""
        arrays: dict[str, npt.NDArray[Any]] = {"segments": row.masks.segments.astype(np.uint16)}
        if row.masks.embeddings is not None:
            arrays["embeddings"] = row.masks.embeddings
        if row.named is not None:
            arrays["named"] = row.named
        write_whole(self._masks(method, key), lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))

    def truth(self, key: str) -> list[npt.NDArray[np.int32]]:
        """An image's truths."""
        arrays = _arrays(self._truth(key))
        return [arrays[f"truth{i}"] for i in range(len(arrays))]

    def row(self, method: str, key: str) -> MethodMasks:
        """A method's masks of an image."""
        arrays = _arrays(self._masks(method, key))
        return MethodMasks(Masks(arrays["segments"].astype(np.int32), arrays.get("embeddings")), arrays.get("named"))

    def _truth(self, key: str) -> Path:
        return self.folder / "truths" / f"{key}.npz"

    def _masks(self, method: str, key: str) -> Path:
        return self.folder / "masks" / method / f"{key}.npz"


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise GensegError(f"{path} is damaged; remove it and run the evaluation again") from error
