"""The atlas of a model as a result: its cells, and its page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from genseg.display.html import data_uri, embedded, rendered
from genseg.display.palette import palette
from genseg.evaluation.agreement import matched_colors
from genseg.files import write_text
from genseg.interface import FeatureTap
from genseg.recipe import Recipe


@dataclass(frozen=True)
class AtlasCell:
    """One site at one timestep.

    Attributes:
        site: Name of the site.
        timestep: The timestep.
        colors: uint8 (h, w, 3): the features' first three principal components, those of all timesteps of the site.
        grid_labels: int32 (h, w): the clusters; None where they could not be found.
        score: The unsupervised score of calibration, in [0, 1]; 0 without scores, or where the clusters fail.
        terms: Terms of the score by name; see `genseg.calibration.criterion.unsupervised_terms`.
        reason: Why there are no clusters or no score; empty if there are.
    """

    site: str
    timestep: int
    colors: npt.NDArray[np.uint8]
    grid_labels: npt.NDArray[np.int32] | None
    score: float = 0.0
    terms: Mapping[str, float] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Atlas:
    """The sites of a model on one image.

    Attributes:
        backend: Name of the backend.
        picture: The image at the model's size.
        recipe: The recipe of each cell, but for `tap` and `t_f`.
        own: The backend's own site and timestep.
        sites: The sites by name, as the model runs.
        timesteps: The timesteps.
        cells: The cells by site and timestep.
    """

    backend: str
    picture: Image.Image
    recipe: Recipe
    own: tuple[str, int]
    sites: Mapping[str, FeatureTap]
    timesteps: Sequence[int]
    cells: Mapping[tuple[str, int], AtlasCell]

    @cached_property
    def ranked(self) -> list[AtlasCell]:
        """The cells with a score, the best first."""
        return sorted((cell for cell in self.cells.values() if cell.score), key=lambda cell: -cell.score)

    @property
    def best(self) -> list[AtlasCell]:
        """The best cell of each site that has a score, the best site first."""
        best: dict[str, AtlasCell] = {}
        for cell in self.ranked:
            best.setdefault(cell.site, cell)
        return list(best.values())

    def to_html(self, path: str | Path) -> Path:
        """Write the atlas as one HTML file.

        Raises:
            GensegError: If the file cannot be written.
        """
        path = Path(path)
        write_text(path, self._page())
        return path

    def _page(self) -> str:
        reference = self.ranked[0] if self.ranked else next(iter(self.cells.values()))
        worst, best = (self.ranked[-1].score, self.ranked[0].score) if self.ranked else (0.0, 1.0)
        rows = [
            {
                "name": name,
                "about": f"{site.channels} ch · stride {site.stride}",
                "cells": [
                    {
                        "colors": _png(cell.colors),
                        "clusters": self._clusters(cell, reference),
                        "score": f"{cell.score:.2f}" if cell.score else "",
                        "depth": (cell.score - worst) / max(best - worst, 1e-6) if cell.score else 0,
                        "title": _in_words(cell),
                        "best": bool(self.ranked) and cell is reference,
                        "own": (name, cell.timestep) == self.own,
                    }
                    for cell in (self.cells[name, step] for step in self.timesteps)
                ],
            }
            for name, site in self.sites.items()
        ]
        return rendered(
            "atlas.html",
            backend=self.backend,
            photo=embedded(self.picture),
            recipe=self.recipe,
            own=self.own,
            timesteps=self.timesteps,
            rows=rows,
            leading=[
                {"cell": cell, "colors": _png(cell.colors), "clusters": self._clusters(cell, reference)}
                for cell in self.best[:4]
            ],
        )

    def _clusters(self, cell: AtlasCell, reference: AtlasCell) -> str:
        """The clusters of a cell in the colors of those of the reference that they match, as an image; "" for none."""
        if cell.grid_labels is None:
            return ""
        number = int(self.recipe.n_clusters)
        colors = palette(number)
        if reference.grid_labels is not None:
            size = self.picture.size
            labels, others = (_scaled(each, size) for each in (cell.grid_labels, reference.grid_labels))
            colors = matched_colors(labels, others, number)
        return _png(colors[cell.grid_labels])


def _scaled(labels: npt.NDArray[np.int32], size: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Labels at a size (width, height), the nearest cell's."""
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    """Pixels (h, w, 3) as a data URI, without loss: a page shows cells as squares."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return data_uri("image/png", buffer.getvalue())


def _in_words(cell: AtlasCell) -> str:
    terms = ", ".join(f"{name} {value:.2f}" for name, value in (cell.terms or {}).items())
    return f"{cell.site} at t={cell.timestep}: {cell.reason or terms or 'no score'}"
