"""Segmentations as files: label maps that anyone reads, and archives that come back whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genseg.errors import GensegError
from genseg.files import write_whole
from genseg.recipe import Recipe
from genseg.segmentation import Cost, Segmentation

FORMAT = 1  # of .npz files
ARRAYS = ("labels", "grid_labels", "embeddings", "colors", "image", "scores", "confidence")


def save(found: Segmentation, path: Path) -> None:
    """Write a segmentation; see `Segmentation.save`."""
    if path.suffix == ".png":
        if len(found.colors) > 256:
            raise GensegError(f"an indexed PNG holds 256 labels, not {len(found.colors)}; save as .npz or merge first")
        picture = Image.fromarray(found.labels.astype(np.uint8))
        picture.putpalette(found.colors.tobytes())
        write_whole(path, lambda file: picture.save(file, format="PNG"))
    elif path.suffix == ".npz":
        meta = {"format": FORMAT, "backend": found.backend, "seed": found.seed, "names": found.names}
        meta |= {"recipe": asdict(found.recipe), "cost": asdict(found.cost)}
        arrays = {name: getattr(found, name) for name in ARRAYS if getattr(found, name) is not None}
        write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, meta=json.dumps(meta), **arrays))
    else:
        raise GensegError(
            f"cannot save as {path.suffix or 'a file without suffix'}; use .png (labels) or .npz (everything)"
        )


def load(path: Path) -> Segmentation:
    """Read what `save` wrote as ``.npz``; see `Segmentation.load`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            meta: dict[str, Any] = json.loads(str(file["meta"]))
            arrays: dict[str, Any] = {name: file.get(name) for name in ARRAYS}
        if meta["format"] != FORMAT:
            raise GensegError(
                f"{path} was saved by another version of genseg (format {meta['format']}); upgrade genseg"
            )
        names = meta.get("names")  # files from before there were names have none
        return Segmentation(
            **arrays,
            recipe=Recipe(**meta["recipe"]),
            cost=Cost(**meta["cost"]),
            backend=meta["backend"],
            seed=meta["seed"],
            names=None if names is None else tuple(names),
        )
    except GensegError:
        raise
    except FileNotFoundError as error:
        raise GensegError(f"{path} does not exist; check the path") from error
    except Exception as error:  # zipfile, json, numpy: any of them on a file that is not ours
        raise GensegError(f"{path} is not a segmentation saved by genseg as .npz; save it again") from error
