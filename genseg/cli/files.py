"""Files of the command line: from arguments to images, and from images to output files."""

from __future__ import annotations

import codecs
import glob
import os
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer

from genseg.errors import GensegError, unknown
from genseg.files import KINDS, TEMPORARY, fits, write_json, write_text, write_whole

if TYPE_CHECKING:
    from genseg.images.listing import ImageFilter
    from genseg.segmentation import Segmentation

OutputFiles: TypeAlias = dict[str, Path]
"""The file to write for each kind."""


def split_inputs(arguments: Iterable[str], unusable: dict[str, str] | None = None) -> tuple[list[Path], list[str]]:
    """Divide arguments into images and recipe options.

    Files that are no images are left out with a warning, unless an argument names them by themselves.

    Args:
        arguments: Images, folders, patterns and ``key=value``, mixed; ``-`` for a list on standard input.
        unusable: Takes the lines of that list that stand for no image, and why; None to stop at one.

    Returns:
        The images, each once and in the order of the arguments, and the options.

    Raises:
        GensegError: If an argument stands for no image, or there is none at all.
    """
    from genseg.images.listing import ImageFilter

    images: dict[tuple[str, str], Path] = {}  # links of several names to one file are several images
    options, image_filter = [], ImageFilter(os.listdir)
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if equals and key.isidentifier() and not os.path.lexists(argument):
            options.append(argument)
            continue
        for line in _lines() if argument == "-" else [argument]:
            try:
                paths = _expanded(line, image_filter)
            except GensegError as error:
                if unusable is None or argument != "-":
                    raise
                unusable[line] = str(error)
                continue
            for path in paths:
                images.setdefault((os.path.realpath(path), path.name), path)
    image_filter.warn()
    if not images and not unusable:
        raise GensegError("no image given; name images, folders or patterns")
    return list(images.values()), options


def _lines() -> list[str]:
    """The paths on standard input: one a line, or separated by NUL as ``find -print0`` does."""
    content = typer.get_binary_stream("stdin").read()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", errors="replace").encode()
    content = content.removeprefix(codecs.BOM_UTF8)
    parts = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(part) for part in parts if part.strip()]


def _expanded(argument: str, image_filter: ImageFilter) -> list[Path]:
    """The images that one argument stands for."""
    from genseg.images.files import SUFFIXES
    from genseg.images.listing import ANY

    if not argument:
        raise GensegError("an argument is empty, perhaps a variable that is not set; name images, folders or patterns")
    path = Path(argument)
    if path.is_dir():
        images = _images_in(path, image_filter)
        problem = f"holds no image ({' '.join(SUFFIXES)}); name another folder"
    elif os.path.lexists(path):
        return [path] if image_filter.takes(str(path.parent), path.name, ANY) else []
    else:
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
        files = [match for match in matches if not match.is_dir()]
        if files and "**" in argument:  # which matches the files in folders by themselves
            matches = files
        images = [image for match in matches for image in _matched(match, image_filter)]
        problem = f"matches no {'image' if matches else 'file'}; check the pattern"
        if not glob.has_magic(argument):
            problem = "does not exist; check the path"
    if not images:
        raise GensegError(f"{argument} {problem}")
    return images


def _matched(path: Path, image_filter: ImageFilter) -> list[Path]:
    if path.is_dir():
        return _images_in(path, image_filter)
    return [path] if image_filter.takes(str(path.parent), path.name) else []


def _images_in(folder: Path, image_filter: ImageFilter) -> list[Path]:
    try:
        files = sorted(file for file in folder.iterdir() if not (file.name.startswith(".") or file.is_dir()))
    except OSError as error:
        raise GensegError(f"cannot read the folder {folder}: {error.strerror or error}; name another one") from error
    return [file for file in files if image_filter.takes(str(folder), file.name)]


def kinds_of(save: Iterable[str]) -> list[str]:
    """The kinds of file named in comma-separated lists, each once.

    Raises:
        GensegError: For an unknown kind.
    """
    kinds = list(dict.fromkeys(kind.strip() for part in save for kind in part.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of file to save", kind, KINDS)
    return kinds


def planned(
    images: Iterable[Path], out: Path, kinds: Iterable[str], overwrite: bool, unusable: dict[str, str]
) -> list[tuple[Path, OutputFiles]]:
    """The files to write for each image: all of them, or none where they exist.

    `write` writes all files of an image or none, so where only some exist, another command has written them, perhaps by
    another recipe: others beside them would be of other segments.

    Args:
        images: The images.
        out: The folder to write to.
        kinds: Those of `KINDS` to write.
        overwrite: Whether files that exist are written again.
        unusable: Takes the images whose names are too long for the files made of them, or of which only some files
            exist, and why.

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
        if long := [file.name for file in files.values() if not fits(file)]:
            unusable[str(image)] = f"the name {long[0]} is too long for a file; rename the image"
            continue
        missing = [file for file in files.values() if overwrite or not file.exists()]
        if 0 < len(missing) < len(files):
            there = next(file for file in files.values() if file not in missing)
            unusable[str(image)] = (
                f"{there} exists and {missing[0].name} does not; give --overwrite to make all files of the image "
                "again, or another --out"
            )
        else:
            plan.append((image, files if missing else {}))
    return plan


def files_of(image: Path, out: Path, kinds: Iterable[str]) -> OutputFiles:
    """Where each kind of file of an image lies."""
    return {kind: out / (image.stem + KINDS[kind]) for kind in kinds}


def check_writable(out: Path) -> None:
    """Try whether files can be made in ``out``, or in the nearest folder above it that exists.

    Raises:
        GensegError: If not.
    """
    folder = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not fits(out):
        raise GensegError(f"cannot write to {out}: a name in it is too long; choose another --out")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise GensegError(f"cannot write to {out}: {error.strerror or error}; choose another --out") from error


def check_output(file: Path, overwrite: bool) -> None:
    """Refuse a file that exists, unless it is to be overwritten, or that cannot be written.

    Raises:
        GensegError: If it is refused.
    """
    if file.exists() and not overwrite:
        raise GensegError(f"{file} exists; give --overwrite to make it again, or another --out")
    check_writable(file.parent)


def write(segmentation: Segmentation, files: OutputFiles, image: Path) -> None:
    """Write a segmentation's files, all of them or none.

    They are renamed one right after another when all have been written, so that an interruption leaves no image with
    some of its files.

    Args:
        segmentation: The segmentation.
        files: The file of each kind, all in one folder.
        image: The image that JSON files refer to.

    Raises:
        GensegError: If one cannot be written.
    """
    path = folder = next(iter(files.values())).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY) as temporary:
            written = {path: Path(temporary) / path.name for path in files.values()}
            for kind, path in files.items():
                _write(segmentation, kind, path, written[path], image)
            for path in files.values():
                written[path].replace(path)
    except (OSError, GensegError) as error:
        cause = error.__cause__ if isinstance(error, GensegError) else error  # the former names the temporary file
        if not isinstance(cause, OSError):
            raise
        raise GensegError(f"cannot write {path}: {cause.strerror or cause}; choose another output folder") from error


def _write(segmentation: Segmentation, kind: str, path: Path, written: Path, image: Path) -> None:
    """Write a file of one kind, which is to lie at ``path``, as ``written``."""
    from PIL import Image

    pictures = {"image": lambda: Image.fromarray(segmentation.image), "overlay": segmentation.overlay}
    if kind in pictures:
        write_whole(written, partial(pictures[kind]().save, format="PNG"))
    elif kind == "coco":
        write_json(written, segmentation.to_coco(image.name))
    elif kind == "labelme":
        from genseg.segmentation.labelme import document_of

        write_json(written, document_of(segmentation, image, path))
    elif kind == "cvat":
        from genseg.segmentation import cvat

        write_text(written, cvat.document_of(segmentation, image.name))
    else:
        segmentation.save(written)
