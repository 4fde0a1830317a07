"""What the command line reads and writes: arguments to images, and images to the files made of them."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer

from genseg.errors import GensegError, unknown
from genseg.files import write_whole

if TYPE_CHECKING:
    from genseg.segmentation import Segmentation

KINDS = {"image": ".image.png", "overlay": ".overlay.png", "labels": ".labels.png", "npz": ".npz"}
"""What can be saved, and the ending of each file's name."""

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Of the files that are taken from a folder."""

Files: TypeAlias = dict[str, Path]
"""The file to write for each kind."""


def sorted_out(arguments: Iterable[str], bad: dict[str, str] | None = None) -> tuple[list[Path], list[str]]:
    """Tell images from recipe options.

    Args:
        arguments: Images, folders, patterns and ``key=value``, mixed; ``-`` for a list on standard input.
        bad: Takes lines of that list which stand for no file, and why; None to stop at one.

    Returns:
        The images, each once and in the order given, and the options.

    Raises:
        GensegError: If an argument stands for no file, or there is no image at all.
    """
    images: dict[str, Path] = {}  # by the path they resolve to
    options, lines = [], list[str]()
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if argument == "-":
            lines = _listed()
        elif equals and key.isidentifier() and not os.path.lexists(argument):
            options.append(argument)
            continue
        for each in lines if argument == "-" else [argument]:
            try:
                found = _expanded(each)
            except GensegError as error:
                if bad is None or argument != "-":
                    raise
                bad[each] = str(error)
                continue
            for image in found:
                images.setdefault(os.path.realpath(image), image)
    if not images and not bad:
        raise GensegError("no image given; name images, folders or patterns")
    return list(images.values()), options


def _listed() -> list[str]:
    """The paths on standard input: one a line, or separated by NUL as ``find -print0`` does."""
    given = typer.get_binary_stream("stdin").read()
    parts = given.split(b"\0") if b"\0" in given else given.splitlines()
    return [os.fsdecode(part) for part in parts if part.strip()]


def _expanded(argument: str) -> list[Path]:
    """The images that one argument stands for."""
    path = Path(argument)
    if not os.path.lexists(path):
        matches = sorted(glob.glob(argument))  # noqa: PTH207  # pathlib takes no absolute patterns
        if not matches:
            what = (
                "matches no file; check the pattern" if glob.has_magic(argument) else "does not exist; check the path"
            )
            raise GensegError(f"{argument} {what}")
        return [image for match in matches for image in _expanded(match)]
    if not path.is_dir():
        return [path]
    try:
        found = [file for file in sorted(path.iterdir()) if _is_image(file)]
    except OSError as error:
        raise GensegError(f"cannot read the folder {path}: {error.strerror or error}; name another one") from error
    if not found:
        raise GensegError(f"{path} holds no image ({' '.join(SUFFIXES)}); name another folder")
    return found


def _is_image(file: Path) -> bool:
    """Whether a file in a folder is taken: not one that is hidden, or that an earlier run wrote."""
    ours = file.name.endswith(tuple(KINDS.values()))
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not ours and file.is_file()


def kinds_of(save: str) -> list[str]:
    """The kinds of file named in a comma-separated list, each once.

    Raises:
        GensegError: For an unknown kind.
    """
    kinds = list(dict.fromkeys(kind.strip() for kind in save.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of file to save", kind, KINDS)
    return kinds


def planned(images: Iterable[Path], out: Path, kinds: Iterable[str], overwrite: bool) -> list[tuple[Path, Files]]:
    """The files to write for each image: those that are missing, or all of them.

    Raises:
        GensegError: If two images have the same name up to the suffix.
    """
    by_stem: dict[str, Path] = {}
    plan = []
    for image in images:
        other = by_stem.setdefault(image.stem, image)
        if other is not image:
            raise GensegError(
                f"{other} and {image} would both be written as {out / image.stem}; rename one, "
                "or segment it apart with another --out"
            )
        files = files_of(image, out, kinds)
        plan.append((image, {kind: file for kind, file in files.items() if overwrite or not file.exists()}))
    return plan


def files_of(image: Path, out: Path, kinds: Iterable[str]) -> Files:
    """Where each kind of file of an image lies."""
    return {kind: out / (image.stem + KINDS[kind]) for kind in kinds}


def check_writable(out: Path) -> None:
    """Try whether files can be made in ``out``, or in the nearest folder above it that exists.

    Raises:
        GensegError: If not.
    """
    folder = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise GensegError(f"cannot write to {out}: {error.strerror or error}; choose another --out") from error


def write(segmentation: Segmentation, files: Files) -> None:
    """Write a segmentation's files, each wholly or not at all.

    Raises:
        GensegError: If one cannot be written.
    """
    from PIL import Image

    pictures = {"image": lambda: Image.fromarray(segmentation.image), "overlay": segmentation.overlay}
    for kind, path in files.items():
        if kind in pictures:
            write_whole(path, partial(pictures[kind]().save, format="PNG"))
        else:
            segmentation.save(path)
