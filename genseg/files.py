"""Writing files so that a failure never leaves half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from genseg.errors import GensegError


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write to a temporary name beside ``path``, then rename.

    Raises:
        GensegError: If the folder cannot be written to, or the disk is full; ``path`` is then as it was.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            write(file)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise GensegError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder of a temporary name beside ``path``: renamed when all went well, removed when not.

    Raises:
        GensegError: If ``path`` is there and not empty, or cannot be written; it is then as it was.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise GensegError(f"{path} is there already; remove it or name another folder")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise GensegError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def in_bytes(size: float) -> str:
    """A size in words, such as ``"1.23 MB"``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
