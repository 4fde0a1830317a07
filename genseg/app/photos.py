"""The example photos."""

from __future__ import annotations

from pathlib import Path

import genseg


def examples() -> list[Path]:
    """The example photos: in a wheel beside this module, in a checkout among the examples."""
    packaged = Path(__file__).parent / "examples"
    folder = packaged if packaged.is_dir() else Path(genseg.__file__).parents[1] / "examples" / "images"
    return sorted(folder.glob("*.jpg"))
