"""The hub and its local substitutes: resolving ``model=``, and messages for what cannot be loaded."""

from __future__ import annotations

import importlib
import json
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
from safetensors import SafetensorError

from genseg.errors import GensegError

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
"""Suffixes of names that are files and no hub ids."""
WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:-\d+-of-\d+)?(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors")
"""Names of weight files, whole or in parts, with their variant."""
PATIENCE = 5.0  # seconds that the hub has to answer a first time
_unreachable: ContextVar[str] = ContextVar("_unreachable", default="")


@contextmanager
def the_hub(model: str, *, offline: bool) -> Iterator[None]:
    """Within the block the hub is asked for nothing if ``offline``: only what has been downloaded before is used.

    Neither is it asked if ``model`` is there and the hub cannot be reached, which its client would try for minutes.
    """
    before, reason = huggingface_hub.constants.HF_HUB_OFFLINE, _unreachable.get()
    if not (offline or before or local_path(model)):
        reason = _reason_unreachable()
    token = _unreachable.set(reason)
    huggingface_hub.constants.HF_HUB_OFFLINE = before or offline or bool(reason)
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before
        _unreachable.reset(token)


def _reason_unreachable() -> str:
    """Why no connection to the hub can be made; empty if one can, or if a proxy is to make it."""
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    if urllib.request.getproxies():
        return ""
    host, outcome = address.hostname or "", ["does not answer"]

    def connect() -> None:
        try:
            socket.create_connection((host, address.port or 443), PATIENCE).close()
            outcome[0] = ""
        except socket.gaierror as error:
            outcome[0] = f"cannot be resolved ({error.strerror})"
        except OSError as error:
            outcome[0] = f"cannot be reached ({error.strerror or error})"

    attempt = threading.Thread(target=connect, daemon=True)  # for nothing else bounds the resolution of a name
    attempt.start()
    attempt.join(PATIENCE)
    return f"{host} {outcome[0]}" if outcome[0] else ""


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
            f"there is no file or folder {model}, and a hub id is organization/name; "
            "give a local folder, a .safetensors file or a hub id"
        )
    return None


def file_of(path: Path | None) -> Path | None:
    """The single-file checkpoint that a path is; None for a folder, or for the hub.

    Raises:
        GensegError: If it is a file that is no safetensors.
    """
    if path is None or not path.is_file():
        return None
    if path.suffix == ".gguf":
        raise GensegError(
            f"{path} is a GGUF file; read its network by diffusers (from_single_file with a GGUFQuantizationConfig) "
            "and pass that to the backend's class, or give a .safetensors file"
        )
    if path.suffix != ".safetensors":
        raise GensegError(f"{path} is not a .safetensors file; pickles can run code, so convert it first")
    return path


def extra(package: str) -> Any:
    """A package of the ``sd`` extra.

    Raises:
        GensegError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise GensegError(f"this needs the package {package!r}; run: pip install 'genseg[sd]'") from error


def variant_of(model: str, subfolder: str, revision: str | None = None, *, ask: bool = False) -> str | None:
    """The variant, such as ``"fp16"``, of a part that has no weights without one; None if it has, or has none at all.

    Args:
        model: A folder or hub id.
        subfolder: The part's folder.
        revision: Branch, tag or commit on the hub.
        ask: Whether the hub is asked for the files that it has; else only what has been downloaded counts.
    """
    folder = local_path(model, revision)
    if folder is not None:
        names = [path.name for path in (folder / subfolder).glob("*")]
    elif ask:
        paths = map(Path, huggingface_hub.list_repo_files(model, revision=revision))
        names = [path.name for path in paths if path.parent == Path(subfolder)]
    else:
        config = huggingface_hub.try_to_load_from_cache(model, str(Path(subfolder, "config.json")), revision=revision)
        names = [path.name for path in Path(config).parent.glob("*")] if isinstance(config, str) else []
    variants = {match[1] for match in map(WEIGHTS.fullmatch, names) if match}
    if not variants or None in variants:
        return None
    return min(variants, key=lambda variant: (variant != "fp16", variant))


def is_downloaded(model: str, subfolder: str, revision: str | None = None) -> bool:
    """Return whether the weights of a part of a model on the hub have been downloaded."""
    config = huggingface_hub.try_to_load_from_cache(model, str(Path(subfolder, "config.json")), revision=revision)
    return isinstance(config, str) and any(WEIGHTS.fullmatch(path.name) for path in Path(config).parent.iterdir())


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
    detail, place = first_line(error), place_of(model, part, revision)
    local = Path(model).expanduser().exists()
    causes = {type(cause): cause for cause in _causes(error)}
    for kind in (SafetensorError, json.JSONDecodeError):
        if kind in causes:
            cure = (
                "get the file again"
                if local
                else f"delete it from {huggingface_hub.constants.HF_HUB_CACHE} and get it again"
            )
            return GensegError(f"{place} is damaged or cut off ({causes[kind]}); {cure}")
    if local:
        return GensegError(
            f"{model} has no usable {part}/ ({detail}); give a folder in the diffusers layout with safetensors"
        )
    if GatedRepoError in causes:
        return GensegError(
            f"{model} is gated; accept its terms on the hub and log in with 'hf auth login', or give a local folder"
        )
    if RepositoryNotFoundError in causes:
        return GensegError(f"the hub has no {model}, or it is private; check the id, or log in with 'hf auth login'")
    if reason := _unreachable.get():
        return GensegError(
            f"cannot get {place}: it has not been downloaded, and {reason}; go online once, or give a local folder"
        )
    if "safetensors" in detail and not huggingface_hub.constants.HF_HUB_OFFLINE:
        return GensegError(
            f"{place} holds no safetensors; pickles can run code, so convert them first and "
            "give the folder as model=..., or give a revision= that has them"
        )
    if OfflineModeIsEnabled in causes or huggingface_hub.constants.HF_HUB_OFFLINE:
        return GensegError(f"cannot get {place}: it has not been downloaded; go online once, or give a local folder")
    return GensegError(f"cannot get {place} ({detail}); connect to the hub once to download it, or give a local folder")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
