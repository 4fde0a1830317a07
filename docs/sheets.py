"""Pictures on one sheet: side by side, or on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

WIDTH, GAP = 250, 6


def row(path: Path, *pictures: Image.Image) -> None:
    """Save pictures side by side, `WIDTH` wide and as high as the first; cells of a grid keep sharp edges."""
    height = round(WIDTH * pictures[0].height / pictures[0].width)
    how = [Image.Resampling.NEAREST if each.width < WIDTH / 2 else Image.Resampling.LANCZOS for each in pictures]
    scaled = [each.resize((WIDTH, height), kind) for each, kind in zip(pictures, how, strict=True)]
    grid(scaled, len(pictures)).save(path, quality=88)


def grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Put pictures in the middle of cells as large as the largest of them, row by row, on white."""
    width, height = (max(getattr(each, side) for each in pictures) + GAP for side in ("width", "height"))
    sheet = Image.new("RGB", (columns * width - GAP, -(-len(pictures) // columns) * height - GAP), "white")
    for place, each in enumerate(pictures):
        y, x = divmod(place, columns)
        left, top = (width - GAP - each.width) // 2, (height - GAP - each.height) // 2
        sheet.paste(each, (x * width + left, y * height + top))
    return sheet
