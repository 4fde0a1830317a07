"""Pictures of segmentations: overlays, figures, and what notebooks show."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.segmentation import find_boundaries

from genseg.checks import check_share
from genseg.cost import Cost
from genseg.display.captions import captioned
from genseg.display.html import pictures
from genseg.segmentation.sampling import centers

if TYPE_CHECKING:
    from typing import Self

    from matplotlib.axes import Axes

SHOWN = 400  # pixels: width of a picture in a notebook, at most


class Pictures:
    """The pictures of a `Segmentation`, which this is the base of."""

    labels: npt.NDArray[np.int32]
    colors: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8]
    names: tuple[str, ...] | None
    confidence: npt.NDArray[np.float16] | None
    cost: Cost
    backend: str
    seed: int
    n_segments: Any

    def overlay(self, opacity: float = 0.5, *, outlines: bool = True) -> Image.Image:
        """Draw the segments' colors and names over the image, and their outlines; RGB at the image's own size.

        Args:
            opacity: Of the colors, in [0, 1]: 0 for the image alone.
            outlines: Whether outlines are drawn.

        Raises:
            GensegError: If ``opacity`` is not in [0, 1].
        """
        check_share("opacity", opacity)
        mixed = (1 - opacity) * self.image + opacity * self.colors[self.labels]
        if outlines:
            mixed[find_boundaries(self.labels, mode="thick")] = 255
        picture = Image.fromarray(mixed.round().astype(np.uint8))
        return picture if self.names is None else captioned(picture, self.labels, self.names)

    def show(self) -> None:
        """Open the overlay in the system's image viewer; a notebook shows a segmentation by itself."""
        self.overlay().show()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the overlay into a matplotlib axes (a new one for None) and return it."""
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.subplots(layout="constrained")[1]
        ax.imshow(self.overlay())
        ax.set_axis_off()
        ax.set_title(f"{self.backend}, {self.n_segments} segments")
        return ax

    def resized(self, width: int) -> Self:
        """Scale image and labels down to at most ``width`` pixels wide; draw boundaries after, or they fade."""
        rows, columns = self.labels.shape
        size = (min(columns, width), max(round(rows * min(width / columns, 1)), 1))
        image = Image.fromarray(self.image).resize(size, Image.Resampling.LANCZOS)
        nearest = centers(self.labels.shape, size[::-1])
        confidence = None if self.confidence is None else self.confidence[nearest]
        return replace(  # type: ignore[type-var]
            self, image=np.asarray(image), labels=self.labels[nearest], confidence=confidence
        )

    def _shown(self) -> list[Image.Image]:
        """The image and its overlay, small."""
        shown = self.resized(SHOWN)
        return [Image.fromarray(shown.image), shown.overlay()]

    def _repr_jpeg_(self) -> bytes:
        image, overlay = self._shown()  # what is shown where HTML is not trusted, as on GitHub
        both = Image.new("RGB", (2 * image.width + 4, image.height), "white")
        both.paste(image, (0, 0))
        both.paste(overlay, (image.width + 4, 0))
        buffer = io.BytesIO()
        both.save(buffer, format="JPEG", quality=85)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        height, width = self.labels.shape
        facts = f"{self.backend}, {self.n_segments} segments, {width}×{height} pixels, seed {self.seed}"
        spent = f"{sum(self.cost.seconds.values()):.1f} s, {self.cost.evaluations} model evaluations"
        return pictures(self._shown(), f"{facts}; {spent}")
