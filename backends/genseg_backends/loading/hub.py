"""The hub and its local stand-ins: what ``model=`` names, and what to say when it cannot be had."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from genseg.errors import GensegError

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
"""How names end that are a file's and no hub id."""


@contextmanager
def the_hub(offline: bool) -> Iterator[None]:
    """Within the block nothing is asked of the hub if ``offline``: only what has been downloaded before is used."""
    kept = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = kept or offline
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = kept


def local_path(model: str, revision: str | None = None) -> Path | None:
    """The file or folder that ``model`` names, or None for a hub id; the hub itself is not asked.

    Raises:
        GensegError: If it is neither, or a local one with a ``revision``.
    """
    path = Path(model).expanduser()
    if path.exists():
        if revision:
            raise GensegError(f"revision={revision!r} is for the hub, and {model} is local; leave it out")
        return path
    if not HUB_ID.fullmatch(model) or model.endswith(FILES):
        raise GensegError(
            f"there is no file or folder {model}, and a hub id is organisation/name; "
            "give a local folder, a .safetensors file or a hub id"
        )
    return None


def extra(package: str) -> Any:
    """A package of the ``sd`` extra.

    Raises:
        GensegError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise GensegError(f"this needs the package {package!r}; run: pip install 'genseg[sd]'") from error


def first_line(error: Exception) -> str:
    """An exception in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def place_of(model: str, subfolder: str, revision: str | None) -> str:
    """A part of a checkpoint, in words."""
    part = f"the {subfolder} of {model}" if subfolder else model
    return f"{part} at revision {revision!r}" if revision else part


def missing(model: str, part: str, revision: str | None, error: Exception) -> GensegError:
    """The sentence for a part of a checkpoint that could not be had, by what was raised."""
    detail = first_line(error)
    if Path(model).expanduser().exists():
        return GensegError(
            f"{model} has no usable {part}/ ({detail}); give a folder in the diffusers layout with safetensors"
        )
    why = {type(cause) for cause in _causes(error)}
    if GatedRepoError in why:
        return GensegError(
            f"{model} is gated; accept its terms on the hub and log in with 'hf auth login', or give a local folder"
        )
    if RepositoryNotFoundError in why:
        return GensegError(f"the hub has no {model}, or it is private; check the id, or log in with 'hf auth login'")
    if "safetensors" in detail and not huggingface_hub.constants.HF_HUB_OFFLINE:
        return GensegError(
            f"{place_of(model, part, revision)} holds no safetensors; pickles can run code, so convert them first and "
            "give the folder as model=..., or give a revision= that has them"
        )
    if OfflineModeIsEnabled in why or huggingface_hub.constants.HF_HUB_OFFLINE:
        return GensegError(
            f"cannot get {place_of(model, part, revision)}: it has not been downloaded; go online once, "
            "or give a local folder"
        )
    return GensegError(
        f"cannot get {place_of(model, part, revision)} ({detail}); connect to the hub once to download it, "
        "or give a local folder"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
