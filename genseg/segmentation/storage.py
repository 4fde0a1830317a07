"""Files of segmentations: everything as ``.npz``, label maps as ``.png``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.cost import Cost
from genseg.errors import GensegError
from genseg.files import Layout, read_arrays, write_arrays, write_json, write_whole
from genseg.recipe import load_recipe

if TYPE_CHECKING:
    from genseg.segmentation.result import Segmentation

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


def label_map(labels: npt.NDArray[np.int32], colors: npt.NDArray[np.uint8]) -> Image.Image:
    """Make an indexed picture of labels in their colors, or one in 16-bit gray where there are more than 256."""
    is_indexed = len(colors) <= 256
    picture = Image.fromarray(labels.astype(np.uint8 if is_indexed else np.uint16))
    if is_indexed:
        picture.putpalette(colors.tobytes())
    return picture


def write_labels(path: Path, labels: npt.NDArray[np.int32], colors: npt.NDArray[np.uint8]) -> None:
    """Write a `label_map` as PNG."""
    picture = label_map(labels, colors)
    write_whole(path, lambda file: picture.save(file, format="PNG"))


def write(segmentation: Segmentation, path: Path) -> Path:
    """Write a segmentation as `Segmentation.save` says."""
    match path.suffix.lower():
        case ".png":
            write_labels(path, segmentation.labels, segmentation.colors)
        case ".json":
            write_json(path, segmentation.to_coco())
        case ".npz":
            fields = {name: getattr(segmentation, name) for name in ARRAYS}
            arrays = {name: array for name, array in fields.items() if array is not None}
            meta = {name: getattr(segmentation, name) for name in ("backend", "seed", "names")}
            meta |= {"format": FORMAT, "recipe": asdict(segmentation.recipe), "cost": asdict(segmentation.cost)}
            write_arrays(path, {"meta": json.dumps(meta), **arrays})
        case _:
            raise GensegError(
                f"cannot save as {path.suffix or 'a file without suffix'}; "
                "use .png (labels), .json (COCO's masks) or .npz (everything)"
            )
    return path


def read_meta(path: Path) -> dict[str, Any]:
    """Read what describes a segmentation without its arrays: ``backend``, ``names``, …; empty if it is damaged."""
    try:
        meta = _meta(path)
    except Exception:  # zipfile, json or numpy; whoever reads all of the file says what is wrong
        return {}
    return meta if isinstance(meta, dict) else {}


def _meta(path: Path) -> Any:
    return json.loads(str(read_arrays(path, {"meta": (np.str_, "")})["meta"]))


def read(path: Path) -> dict[str, Any]:
    """Read what `write` wrote as ``.npz``: the fields of a `Segmentation`.

    Raises:
        GensegError: If the file is missing, damaged, or of another kind or version.
    """
    try:
        meta: dict[str, Any] = _meta(path)
        if meta["format"] != FORMAT:
            raise GensegError(
                f"{path} was saved by another version of genseg (format {meta['format']}); upgrade genseg"
            )
        arrays = read_arrays(path, LAYOUT)
        _check_values(arrays)
        _check_meta(meta)
        names = meta.get("names")  # absent in files from before segments had names
        if names is not None and len(names) != len(arrays["colors"]):
            raise ValueError("there must be a name for each label")
        return {
            "scores": None,
            "confidence": None,
            **arrays,
            "recipe": load_recipe(meta["recipe"]),
            "cost": Cost(**meta["cost"]),
            "backend": str(meta["backend"]),
            "seed": int(meta["seed"]),
            "names": None if names is None else tuple(map(str, names)),
        }
    except GensegError:
        raise
    except FileNotFoundError as error:
        raise GensegError(f"{path} does not exist; check the path") from error
    except Exception as error:  # zipfile, json or numpy, on a file that is not ours
        raise GensegError(f"{path} is not a segmentation that genseg saved ({error}); save it again") from error


def _check_values(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    last = len(arrays["colors"]) - 1
    for name, most in {"labels": last, "grid_labels": last, "confidence": 1}.items():
        if name in arrays and not (arrays[name].min() >= 0 and arrays[name].max() <= most):
            raise ValueError(f"{name} must lie in [0, {most}]")
    if not arrays["embeddings"].size or not np.isfinite(arrays["embeddings"]).all():
        raise ValueError("embeddings are missing or not finite")


def _check_meta(meta: Mapping[str, Any]) -> None:
    names, cost = meta.get("names"), meta["cost"]
    if not isinstance(meta["recipe"], Mapping):
        raise ValueError("its recipe must be keys and values, not the name of another file")
    if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
        raise ValueError("names must be words")
    numbers = [number for key, number in cost.items() if key != "seconds"] + list(cost.get("seconds", {}).values())
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("cost must be numbers")
