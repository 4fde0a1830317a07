"""Finding, listing and loading backends."""

from __future__ import annotations

from functools import partial
from typing import Any

from genseg.interface import Backend
from genseg.plugins import PluginInfo, discovered

_registry = partial(discovered, "backend")


def list_backends() -> list[PluginInfo]:
    """All registered backends, in order of name, and whether each is usable here."""
    return _registry().infos()


def providers(name: str) -> list[str]:
    """The plug-ins that register a backend ``name``; no backend is imported."""
    return _registry().providers(name)


def info_of(name: str) -> PluginInfo:
    """The line of `list_backends` on one backend.

    Raises:
        GensegError: If the name is unknown, or claimed by two plug-ins.
    """
    return _registry().info(name)


def options_of(name: str) -> set[str] | None:
    """What a backend takes besides model, device and dtype; None where its signature does not tell."""
    return _registry().options(name)


def load_backend(
    name: str, *, model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Any
) -> Backend:
    """Load a backend.

    Args:
        name: One of `list_backends`.
        model: A local checkpoint, or a hub id; None for the backend's own.
        device: A torch device such as ``"cuda:0"``; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``; None for float32.
        **options: What else the backend's factory takes, such as ``revision="main"``; None means "not given".

    Returns:
        The backend, its weights loaded.

    Raises:
        GensegError: For an unknown name or option, a missing package, missing or wrong weights, or a device that is
            not there.
    """
    backend: Backend = _registry().load(name, Backend, options, model=model, device=device, dtype=dtype)  # type: ignore[type-abstract]
    return backend
