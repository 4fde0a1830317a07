"""Writing files so that a failure never leaves half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from genseg.errors import GensegError

if TYPE_CHECKING:  # the command line lists files without it
    import numpy as np

LONGEST_NAME = 255  # bytes of a file's or folder's name, on nearly all file systems
TEMPORARY, TEMPORARY_FOLDER = ".genseg-", ".genseg-folder-"
"""Prefix of temporary names; nothing of the final name, which may be as long as the file system allows."""

KINDS = {
    "image": ".image.png",
    "overlay": ".overlay.png",
    "labels": ".labels.png",
    "npz": ".npz",
    "coco": ".coco.json",
    "labelme": ".json",  # labelme looks for NAME.json beside NAME.jpg
    "cvat": ".cvat.xml",
}
"""The files that genseg can write for an image, and the ending of each one's name."""

Layout: TypeAlias = "Mapping[str, tuple[type[np.generic], str]]"
"""Names of arrays, a ``?`` after those that may be missing: the dtype and a letter an axis, one length for each."""

LARGE = 2**28  # bytes that any file may unpack to
EXPANSION = 100  # times its own size that a file may unpack to; masks of photos do to 5


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write to a temporary name beside ``path``, then rename.

    Raises:
        GensegError: If the folder cannot be written to, or the disk is full; ``path`` is then as it was.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=TEMPORARY, delete=False) as file:
            temporary = Path(file.name)
            write(file)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise GensegError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON; see `write_whole`."""
    write_text(path, json.dumps(content))


def write_text(path: Path, content: str) -> None:
    """Write a text as UTF-8; see `write_whole`."""
    encoded = content.encode()
    write_whole(path, lambda file: file.write(encoded))


def check_unpacked(size: int, packed: int) -> None:
    """Refuse a file that would fill the memory.

    Args:
        size: Bytes that it says it unpacks to.
        packed: Bytes of the file.

    Raises:
        ValueError: If it unpacks to more than `LARGE` and `EXPANSION` times its own size.
    """
    if size > max(LARGE, EXPANSION * packed):
        raise ValueError(f"it unpacks to {in_bytes(size)}")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an ``.npz`` file that `read_arrays` takes: compressed, unless it would be refused for how small it is.

    Raises:
        GensegError: As `write_whole`.
    """
    import numpy as np

    def write(file: IO[bytes]) -> None:
        np.savez_compressed(file, allow_pickle=False, **arrays)
        try:
            _check_archive(file)
        except ValueError:
            file.seek(0)
            file.truncate()
            np.savez(file, allow_pickle=False, **arrays)

    write_whole(path, write)


def _check_archive(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        check_unpacked(sum(member.file_size for member in archive.infolist()), file.seek(0, os.SEEK_END))


def read_arrays(path: Path, layout: Layout) -> dict[str, Any]:
    """Read the arrays of an ``.npz`` file, checked against each other.

    Raises:
        OSError, zipfile.BadZipFile: If it cannot be read.
        ValueError: If an array is missing or does not fit the layout, or unpacking the file would fill the memory.
    """
    import numpy as np

    if path.exists() and not path.is_file():  # a pipe may never end
        raise ValueError("it is no regular file")
    with path.open("rb") as packed:
        _check_archive(packed)
    arrays: dict[str, Any] = {}
    lengths = {"3": 3}
    with np.load(path, allow_pickle=False) as file:
        for name, (dtype, axes) in layout.items():
            if name.endswith("?") and name.rstrip("?") not in file.files:
                continue
            name = name.rstrip("?")
            array = file[name] if name in file.files else None
            if array is None or array.ndim != len(axes) or not np.can_cast(array.dtype, dtype, "same_kind"):
                raise ValueError(f"{name} is missing or of another kind")
            if any(lengths.setdefault(axis, length) != length for axis, length in zip(axes, array.shape, strict=True)):
                raise ValueError(f"{name} is of another size than the other arrays")
            arrays[name] = array.astype(dtype, copy=False)
            if array.dtype.kind in "iu" and not np.array_equal(arrays[name], array):
                raise ValueError(f"{name} has numbers out of range")
    return arrays


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder of a temporary name beside ``path``: renamed when all went well, removed when not.

    An empty folder at ``path`` stays, as it may be a mount, or the one that a shell is in: the temporary folder is then
    in it, and what it holds is moved up at the end, or back if that fails. Links are followed.

    It is locked while it is written, so that the next call in the same place can remove those of killed processes.

    Raises:
        GensegError: If ``path`` is there and not empty, or cannot be written; it is then as it was.
    """
    place = Path(os.path.realpath(path))
    temporary = None
    try:
        _check_empty(place, path)
        is_there = place.is_dir()
        parent = place if is_there else place.parent
        parent.mkdir(parents=True, exist_ok=True)
        for abandoned in parent.glob(f"{TEMPORARY_FOLDER}*"):
            with _locked(abandoned) as is_ours:
                if is_ours:
                    shutil.rmtree(abandoned, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=TEMPORARY_FOLDER))
        with _locked(temporary):
            yield temporary
            if is_there:
                _check_empty(place, path)
                _move_up(temporary)
            else:
                temporary.chmod(0o777 & ~_umask())
                temporary.replace(place)
    except OSError as error:
        raise GensegError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_empty(place: Path, path: Path) -> None:
    """Refuse a place that holds anything but temporary folders, as ``path``."""
    if place.exists() and not (
        place.is_dir() and all(child.name.startswith(TEMPORARY_FOLDER) for child in place.iterdir())
    ):
        raise GensegError(f"{path} is there already; remove it or name another folder")


def _move_up(folder: Path) -> None:
    """Move all that a folder holds to where the folder is, or nothing."""
    children = list(folder.iterdir())
    try:
        for child in children:
            child.rename(folder.parent / child.name)
    except BaseException:
        for child in children:
            if not os.path.lexists(child):
                (folder.parent / child.name).rename(child)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether this process alone holds a folder, for as long as it lives; never where the system has no such locks."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = True
    except OSError:
        is_ours = False
    try:
        yield is_ours
    finally:
        os.close(descriptor)


def as_utf8(name: str) -> str:
    r"""A file name as tables and pages take it; bytes that are not UTF-8 become ``\xe9``."""
    return os.fsencode(name).decode(errors="backslashreplace")


def relative_to(path: Path, folder: Path) -> str:
    """The way to a file from a folder, with ``/``; links of folders are followed first."""
    return Path(os.path.relpath(path.parent.resolve() / path.name, folder.resolve())).as_posix()


def fits(path: Path) -> bool:
    """Whether each part of a path is short enough for a file system."""
    return all(len(os.fsencode(part)) <= LONGEST_NAME for part in path.parts)


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
