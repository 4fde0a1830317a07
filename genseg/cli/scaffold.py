"""``genseg backends new``: a plug-in project that passes its own tests as it is."""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from string import Template

from genseg.errors import GensegError, unknown

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_project(name: str, parent: Path, family: str | None = None) -> Path:
    """Write the project of a new backend.

    Args:
        name: Of the backend: lower-case words joined by hyphens. The project is called ``genseg-NAME``.
        parent: The folder that the project's folder is put into.
        family: One of `FAMILIES`, for a backend of diffusers on genseg's own bases; None for one on a network of any
            kind.

    Returns:
        The project's folder.

    Raises:
        GensegError: If the family is unknown, the name is no such name or a backend's already, the folder exists, or it
            cannot be written.
    """
    from genseg.registry import BACKENDS

    if family is not None and family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    if not NAME.fullmatch(name):
        raise GensegError(f"{name!r} is no name for a backend; use lower-case words joined by hyphens, as in my-model")
    if taken := BACKENDS.plugins.providers(name):
        raise GensegError(f"there is a backend {name!r} already, of {taken[0]}; choose another name")
    folder = parent / f"genseg-{name}"
    if folder.exists():
        raise GensegError(f"{folder} exists already; choose another name or --out")
    package = f"genseg_{name.replace('-', '_')}"
    variant = "" if family is None else f"-{family}"
    words = {"name": name, "package": package, "kind": "".join(word.title() for word in name.split("-"))}
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as temporary:
            whole = Path(temporary) / folder.name
            for source, target in FILES.items():
                file = whole / Template(target).substitute(words)
                file.parent.mkdir(parents=True, exist_ok=True)
                template = resources.files("genseg.cli") / "templates" / source.format(variant=variant)
                text = template.read_text(encoding="utf-8")
                file.write_text(Template(text).substitute(words), encoding="utf-8")
            shutil.move(whole, folder)
    except OSError as error:
        raise GensegError(f"cannot write {folder}: {error.strerror or error}; choose another --out") from error
    return folder


FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "init.py.txt": "$package/__init__.py",
    "backend{variant}.py.txt": "$package/backend.py",
    "test{variant}.py.txt": "tests/test_$package.py",
}
"""Templates and what they become."""

FAMILIES = ("unet", "transformer", "joint")
"""Kinds of diffusion models: U-Nets; transformers with cross-attention; transformers with text among their tokens."""
