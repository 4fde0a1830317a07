"""JSON of any length, written entry by entry."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any


class JsonArrayWriter:
    """Streams a JSON object that ends in long arrays, by temporary files that are joined at the end.

    Args:
        path: The file.
        head: First part of the object, with at least one key.
        names: Names of the arrays.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], *names: str) -> None:
        self._path, self._head, self._names = path, head, names
        self._stack = ExitStack()
        self._parts: dict[str, IO[str]] = {}

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        """Add an entry to the array of a name."""
        part = self._parts[name]
        part.write((",\n" if part.tell() else "") + json.dumps(entry, separators=(",", ":")))

    def __enter__(self) -> JsonArrayWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for name in self._names:
            part = tempfile.TemporaryFile("w+", dir=self._path.parent, encoding="utf-8")
            self._parts[name] = self._stack.enter_context(part)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        with self._stack:
            if kind is None:
                self._join()

    def _join(self) -> None:
        with self._path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._head)[:-1])
            for name, part in self._parts.items():
                file.write(f",\n{json.dumps(name)}: [\n")
                part.seek(0)
                shutil.copyfileobj(part, file)
                file.write("\n]")
            file.write("}\n")
