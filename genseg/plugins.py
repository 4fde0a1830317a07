"""What installed plug-ins provide by name, whatever kind of thing it is: found, listed and called.

Plug-ins name factories as ``"module:callable"`` through a hook of `genseg.hookspecs`; nothing is imported until a
factory is used. A factory takes ``model=``, ``device=``, ``dtype=`` and its own options.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from importlib.metadata import distributions
from typing import Any, Self, get_args, is_typeddict

import pluggy

from genseg import hookspecs
from genseg.errors import GensegError, unknown
from genseg.interface import ModelCard


class Providers:
    """Who provides what of one kind, from a set of plug-ins.

    Args:
        kind: What is provided, in a word, such as ``"backend"``.
        hook: The hook of `genseg.hookspecs` that plug-ins register it by.
    """

    def __init__(self, kind: str, hook: str) -> None:
        self._kind, self._hook = kind, hook
        self._plugins = pluggy.PluginManager("genseg")
        self._plugins.add_hookspecs(hookspecs)
        self._claims: dict[str, list[tuple[str, str]]] = {}  # name -> (provider, factory) of each claim

    @classmethod
    def installed(cls, kind: str, hook: str) -> Self:
        """Those of every installed entry point."""
        providers = cls(kind, hook)
        providers.discover()
        return providers

    def add(self, plugin: object, provider: str) -> None:
        """Register one plug-in and collect what it claims; a plug-in that fails leaves nothing behind."""
        self._plugins.register(plugin, name=provider)
        try:
            self._plugins.check_pending()
            claims: list[tuple[str, str]] = []
            others = [p for p in self._plugins.get_plugins() if p is not plugin]
            self._plugins.subset_hook_caller(self._hook, others)(
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

    def claims(self) -> list[tuple[str, str, str]]:
        """Name, provider and factory of every claim, in order of name."""
        return [(name, *claim) for name in sorted(self._claims) for claim in self._claims[name]]

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
            raise unknown(self._kind, name, self._claims)
        if len(claims) > 1:
            providers = " and ".join(provider for provider, _ in claims)
            raise GensegError(f"{self._kind} name {name!r} is claimed by {providers}; uninstall one of them")
        return claims[0][1]


def imported(kind: str, name: str, factory: str) -> Any:
    """The factory ``"module:callable"`` itself.

    Raises:
        GensegError: If it cannot be imported, as where a package is missing.
    """
    module, _, attribute = factory.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise GensegError(f"{kind} {name!r} needs the package {error.name!r}; run: pip install {error.name}") from error
    except (ImportError, AttributeError) as error:
        raise GensegError(f"{kind} {name!r} cannot be loaded from {factory}: {error}") from error


def described(kind: str, name: str, factory: str) -> tuple[str, str, ModelCard | None]:
    """What listings say of a factory: its docstring's first line, why it cannot be used, and its card."""
    try:
        found = imported(kind, name, factory)
    except GensegError as error:
        return "", str(error), None
    return (inspect.getdoc(found) or "").split("\n")[0], "", getattr(found, "card", None)


def called(kind: str, name: str, factory: Any, options: Mapping[str, Any], **given: Any) -> Any:
    """What a factory makes of what is ``given`` and of those options that are not None.

    Raises:
        GensegError: For an option that the factory does not take, and whatever it raises itself.
    """
    options = {key: value for key, value in options.items() if value is not None}
    known = options_of(factory) if options else set()
    for key in options:
        if known is not None and key not in known:
            raise unknown(f"option of {kind} {name!r},", key, known)
    return factory(**given, **options)


def options_of(factory: Any) -> set[str] | None:
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
