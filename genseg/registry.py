"""Finding, listing and loading backends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from genseg.errors import GensegError
from genseg.interface import Backend, ModelCard
from genseg.plugins import Providers, called, described, imported
from genseg.plugins import options_of as factory_options


@dataclass(frozen=True)
class BackendInfo:
    """One line of `list_backends`.

    Attributes:
        name: What to pass as ``backend=``.
        factory: ``"module:callable"``.
        provider: The distribution and entry point that registered it.
        description: First line of the factory's docstring; empty if it cannot be imported here.
        usable: Whether the factory's module imports here.
        problem: Why not, in one sentence; empty if usable.
        card: What is known of its model before it is loaded; None where the factory does not tell.
    """

    name: str
    factory: str
    provider: str
    description: str
    usable: bool
    problem: str
    card: ModelCard | None = None


class Registry(Providers):
    """The backends of a set of plug-ins."""

    def __init__(self) -> None:
        super().__init__("backend", "register_backends")

    def infos(self) -> list[BackendInfo]:
        """Every claim, in order of name."""
        return [_info(*claim) for claim in self.claims()]


def _info(name: str, provider: str, factory: str) -> BackendInfo:
    description, problem, card = described("backend", name, factory)
    return BackendInfo(name, factory, provider, description, not problem, problem, card)


@cache
def _registry() -> Registry:
    registry = Registry()
    registry.discover()
    return registry


def list_backends() -> list[BackendInfo]:
    """All registered backends, in order of name, and whether each is usable here."""
    return _registry().infos()


def providers(name: str) -> list[str]:
    """The plug-ins that register a backend ``name``; no backend is imported."""
    return _registry().providers(name)


def info_of(name: str) -> BackendInfo:
    """The line of `list_backends` on one backend.

    Raises:
        GensegError: If the name is unknown, or claimed by two plug-ins.
    """
    factory = _registry().factory(name)
    return next(info for info in list_backends() if (info.name, info.factory) == (name, factory))


def options_of(name: str) -> set[str] | None:
    """What a backend takes besides model, device and dtype; None where its signature does not tell."""
    return factory_options(imported("backend", name, _registry().factory(name)))


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
    factory = imported("backend", name, _registry().factory(name))
    backend = called("backend", name, factory, options, model=model, device=device, dtype=dtype)
    if not isinstance(backend, Backend):
        raise GensegError(f"the factory of backend {name!r} returned a {type(backend).__name__}, not a genseg Backend")
    return backend
