"""Which files are images: one rule for every command, by their names alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import PurePath

from genseg.files import KINDS
from genseg.images.files import SUFFIXES

ANY = ("",)
"""In place of suffixes: the file was named by itself, and may have any."""


class ImageFilter:
    """Tells images from other files, and counts those that it leaves out.

    Files that genseg wrote beside an image are left out. One that is only called so, such as ``cat.image.png`` where
    there is no ``cat.jpg``, is an image.

    Args:
        list_folder: Gives the names of the files in a folder.
    """

    def __init__(self, list_folder: Callable[[str], Iterable[str]]) -> None:
        self._list_folder = list_folder
        self._stems = lru_cache(maxsize=8)(self._stems_of_images)
        self._left_out, self._example = 0, ""

    def takes(self, folder: str, name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
        """Whether a file of a folder is an image; ``suffixes`` are those to take, in lower case."""
        taken = name.lower().endswith(suffixes) and not self._is_output(folder, name)
        if not taken:
            self._left_out += 1
            self._example = self._example or name
        return taken

    def warn(self) -> None:
        """Say once how many files were left out, if any."""
        if self._left_out:
            skipped = f"{self._left_out} files were skipped: no images, or outputs of genseg"
            if self._left_out == 1:
                skipped = "1 file was skipped: not an image, or an output of genseg"
            warnings.warn(f"{skipped}, such as {self._example}", stacklevel=2)

    def _is_output(self, folder: str, name: str) -> bool:
        for ending in KINDS.values():
            if name.endswith(ending):
                stem, stems = name.removesuffix(ending), self._stems(folder)
                return stem in stems or (ending != KINDS["image"] and stem + ".image" in stems)
        return False

    def _stems_of_images(self, folder: str) -> frozenset[str]:
        try:
            return frozenset(PurePath(n).stem for n in self._list_folder(folder) if n.lower().endswith(SUFFIXES))
        except OSError:  # the folder may be searched and not be listed
            return frozenset()
