"""Upper bounds of what visitors of a server may request."""

from __future__ import annotations

from dataclasses import dataclass

MAX_CLUSTERS = 100
"""Upper bound of ``n_clusters``, below that of recipes: memory and time of a run grow with it."""


@dataclass(frozen=True)
class Limits:
    """Upper bounds of what visitors may request.

    Attributes:
        upload_mb: Megabytes of an image file.
        max_pixels: Pixels of an image.
        queue: Waiting runs.
    """

    upload_mb: float = 20
    max_pixels: int = 20_000_000
    queue: int = 8
