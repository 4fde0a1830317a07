"""Finding, listing and loading backends."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from typing import Any, get_args, is_typeddict

import pluggy

from genseg import hookspecs
from genseg.errors import GensegError, unknown
from genseg.interface import Backend, ModelCard


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


class Registry:
    """The backends of a set of plug-ins."""

    def __init__(self) -> None:
        self._plugins = pluggy.PluginManager("genseg")
        self._plugins.add_hookspecs(hookspecs)
        self._claims: dict[str, list[tuple[str, str]]] = {}  # name -> (provider, factory) of each claim

    def add(self, plugin: object, provider: str) -> None:
        """Register one plug-in and collect its backends; a plug-in that fails leaves nothing behind."""
        self._plugins.register(plugin, name=provider)
        try:
            self._plugins.check_pending()
            claims: list[tuple[str, str]] = []
            others = [p for p in self._plugins.get_plugins() if p is not plugin]
            self._plugins.subset_hook_caller("register_backends", others)(
                register=lambda name, factory: claims.append((name, factory))
            )
        except Exception:
            self._plugins.unregister(plugin)
            raise
        for name, factory in claims:
            self._claims.setdefault(name, []).append((provider, factory))

    def discover(self) -> None:
        """Add every installed entry point of group ``genseg``; a broken one is a warning, not a stop."""
        for distribution in distributions():
            for entry in distribution.entry_points.select(group="genseg"):
                provider = f"{distribution.name}:{entry.name}"
                if self._plugins.has_plugin(provider):
                    continue  # the same distribution found twice on the path
                try:
                    self.add(entry.load(), provider)
                except Exception as error:
                    warnings.warn(f"genseg plug-in {provider} is broken and left out: {error}", stacklevel=2)

    def infos(self) -> list[BackendInfo]:
        """Every claim, in order of name."""
        return [_info(name, *claim) for name in sorted(self._claims) for claim in self._claims[name]]

    def providers(self, name: str) -> list[str]:
        """Who claims ``name``; nothing is imported to find out."""
        return [provider for provider, _ in self._claims.get(name, [])]

    def factory(self, name: str) -> str:
        """The factory behind ``name``.

        Raises:
            GensegError: If the name is unknown, or claimed by two plug-ins.
        """
        claims = self._claims.get(name)
        if claims is None:
            raise unknown("backend", name, self._claims)
        if len(claims) > 1:
            providers = " and ".join(provider for provider, _ in claims)
            raise GensegError(f"backend name {name!r} is claimed by {providers}; uninstall one of them")
        return claims[0][1]


def _info(name: str, provider: str, factory: str) -> BackendInfo:
    try:
        found = _imported(name, factory)
    except GensegError as error:
        return BackendInfo(name, factory, provider, "", False, str(error))
    description = (inspect.getdoc(found) or "").split("\n")[0]
    return BackendInfo(name, factory, provider, description, True, "", getattr(found, "card", None))


def _imported(name: str, factory: str) -> Any:
    module, _, attribute = factory.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise GensegError(
            f"backend {name!r} needs the package {error.name!r}; run: pip install {error.name}"
        ) from error
    except (ImportError, AttributeError) as error:
        raise GensegError(f"backend {name!r} cannot be loaded from {factory}: {error}") from error


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
    return _options(_imported(name, _registry().factory(name)))


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
    factory = _imported(name, _registry().factory(name))
    given = {key: value for key, value in options.items() if value is not None}
    known = _options(factory) if given else set()
    for key in given:
        if known is not None and key not in known:
            raise unknown(f"option of backend {name!r},", key, known)
    backend = factory(model=model, device=device, dtype=dtype, **given)
    if not isinstance(backend, Backend):
        raise GensegError(f"the factory of backend {name!r} returned a {type(backend).__name__}, not a genseg Backend")
    return backend


def _options(factory: Any) -> set[str] | None:
    """Names that a factory takes besides model, device and dtype; None where its signature does not tell."""
    try:
        parameters = inspect.signature(factory, eval_str=True).parameters.values()
    except NameError:  # annotated with what only type checkers import
        parameters = inspect.signature(factory).parameters.values()
    names: set[str] = set()
    for parameter in parameters:
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            names.add(parameter.name)
            continue
        (kind,) = get_args(parameter.annotation) or (None,)  # Unpack[a TypedDict]
        if not is_typeddict(kind):
            return None
        names |= kind.__annotations__.keys()
    return names - {"model", "device", "dtype"}
