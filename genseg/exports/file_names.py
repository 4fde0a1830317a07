"""File names for keys, which may be paths, URLs, or lines of a table."""

from __future__ import annotations

import re
import sqlite3
import unicodedata

from genseg.images.files import SUFFIXES

LONGEST = 100  # letters of a folder or file; file systems stop at 255
DEEPEST = 16  # folders, the last of a key; paths stop at 4096 letters
SUFFIX = re.compile(f"({'|'.join(map(re.escape, SUFFIXES))})$", re.IGNORECASE)
LAYOUTS = {"folders": ("/", "/", "_"), "flat": ("_", "_", "_"), "city": ("-", "/", "-")}
"""The joint of folders, the joint before the last part, and the replacement of letters that are not safe."""


class FileNamer:
    """Gives each key of an export a name of its own; safe on any file system, and below the export's folder.

    Letters, digits, ``_`` and ``-`` stay, an image's suffix goes, accents are taken off, and all else becomes ``_``,
    dots too: panopticapi and others take the first for the suffix. Names that are taken, in capitals or not, get
    ``-2``, ``-3``, …; they are kept in a temporary file.

    Args:
        layout: ``"folders"`` keeps sub-folders; ``"flat"`` makes them part of the name; ``"city"`` gives one folder
            and a name, both without ``_``, which Cityscapes has between parts of a name.
    """

    def __init__(self, layout: str) -> None:
        self._joint, self._before_last, self._fill = LAYOUTS[layout]
        self._needs_folder = layout == "city"
        self._taken = sqlite3.connect("", isolation_level=None)  # on disk, and gone when it is closed
        self._taken.execute("CREATE TABLE names (name TEXT PRIMARY KEY COLLATE NOCASE, number INTEGER) WITHOUT ROWID")

    def of(self, key: str) -> str:
        """Name the next key, without a suffix."""
        parts = [part for part in re.split(r"[/\\]", SUFFIX.sub("", key)) if part.strip(" .")]
        *folders, last = [self._safe(part) for part in parts] or ["image"]
        folders = folders[-DEEPEST:] or (["genseg"] if self._needs_folder else [])
        name = self._joint.join(folders) + (self._before_last if folders else "") + last
        name = "/".join(part[:LONGEST] for part in name.split("/"))
        free, number = name, 1
        while self._number(free) is not None:
            number = max(number, self._number(name) or 1) + 1
            free = f"{name}-{number}"
        self._taken.execute("INSERT INTO names VALUES (?, 1)", (free,))
        if number > 1:
            self._taken.execute("UPDATE names SET number = ? WHERE name = ?", (number, name))
        return free

    def _number(self, name: str) -> int | None:
        row = self._taken.execute("SELECT number FROM names WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _safe(self, part: str) -> str:
        ascii_part = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
        unsafe = r"[^A-Za-z0-9-]+" if self._fill == "-" else r"[^A-Za-z0-9_-]+"
        return re.sub(unsafe, self._fill, ascii_part.lstrip(".")).lstrip("-") or self._fill
