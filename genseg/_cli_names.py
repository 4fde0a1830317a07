"""Names of segments on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from genseg.errors import GensegError

if TYPE_CHECKING:
    from genseg.segmentation import Segmentation


def naming(
    names: str | None, embedder: str | None, model: str | None, device: str | None, dtype: str | None
) -> Callable[[Segmentation], Segmentation] | None:
    """What gives segments names as ``--names`` and ``--embedder`` ask for; None where no names are asked for.

    Raises:
        GensegError: If an embedder is given without names, or cannot be loaded, or a class has no name.
    """
    if names is None:
        if embedder or model:
            raise GensegError("--embedder names segments; give classes too, such as --names sky,building,tree")
        return None
    from genseg.embedder import load_embedder
    from genseg.naming import classes_of

    classes = classes_of(names)
    loaded = load_embedder(embedder or "maskclip", model=model, device=device, dtype=dtype)
    return lambda segmentation: segmentation.name(classes, loaded)


def in_words(segmentation: Segmentation) -> str:
    """Each segment's label, name and share of the image, the largest first, in one line."""
    import numpy as np

    assert segmentation.names is not None
    labels, sizes = np.unique(segmentation.labels, return_counts=True)
    parts = sorted(zip((-sizes).tolist(), labels.tolist(), strict=True))
    return ", ".join(
        f"{label} {segmentation.names[label]} {-size / segmentation.labels.size:.0%}" for size, label in parts
    )
