"""Registry of installed plug-ins of any kind: find, list and load what they register."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Any, TypeVar, get_args, is_typeddict

import pluggy

from genseg import hookspecs
from genseg.errors import GensegError, unknown
from genseg.interface import ModelCard

T = TypeVar("T")


@dataclass(frozen=True)
class PluginInfo:
    """One line of a listing.

    Attributes:
        name: What it is asked for by.
        factory: ``"module:callable"``.
        provider: The distribution and entry point that registered it.
        description: First line of the factory's docstring; empty if it cannot be imported here.
        usable: Whether the factory's module imports here.
        problem: Why not, or what is missing until the first use, in one sentence; empty if nothing is.
        card: Facts about its model before it is loaded; None if the factory has none.
    """

    name: str
    factory: str
    provider: str
    description: str
    usable: bool
    problem: str
    card: ModelCard | None = None


class Plugins:
    """Everything of one kind that a set of plug-ins registers.

    Args:
        kind: In the singular, such as ``"backend"``; plug-ins register it through the hook ``register_backends``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._plugins = pluggy.PluginManager("genseg")
        self._plugins.add_hookspecs(hookspecs)
        self._claims: dict[str, list[tuple[str, str]]] = {}  # name -> (provider, factory) of each claim

    def add(self, plugin: object, provider: str) -> None:
        """Register one plug-in and collect what it has of this kind; one that fails leaves nothing behind."""
        self._plugins.register(plugin, name=provider)
        try:
            self._plugins.check_pending()
            claims: list[tuple[str, str]] = []
            others = [p for p in self._plugins.get_plugins() if p is not plugin]
            self._plugins.subset_hook_caller(f"register_{self.kind}s", others)(
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
                    # Here, not at the caller, so that Python says it once although each kind is discovered apart.
                    warnings.warn(f"genseg plug-in {provider} is broken and left out: {error}", stacklevel=1)

    def names(self) -> list[str]:
        """Every name there is, in order; nothing is imported to find out."""
        return sorted(self._claims)

    def infos(self) -> list[PluginInfo]:
        """Every claim, in order of name."""
        return [self._info(name, *claim) for name in self.names() for claim in self._claims[name]]

    def info(self, name: str) -> PluginInfo:
        """The line of `infos` on one name.

        Raises:
            GensegError: If the name is unknown, or claimed by two plug-ins.
        """
        return self._info(name, *self._claim(name))

    def providers(self, name: str) -> list[str]:
        """The plug-ins that register ``name``; nothing is imported."""
        return [provider for provider, _ in self._claims.get(name, [])]

    def factory(self, name: str) -> str:
        """The factory behind ``name``.

        Raises:
            GensegError: If the name is unknown, or claimed by two plug-ins.
        """
        return self._claim(name)[1]

    def options(self, name: str) -> set[str] | None:
        """Options of a factory besides model, device and dtype; None if its signature does not list them."""
        return _options(self._imported(name, self.factory(name)))

    def load(self, name: str, base: type[T], options: Mapping[str, Any], **common: str | None) -> T:
        """Call the factory behind ``name``.

        Args:
            name: A registered name.
            base: What the factory must return.
            options: What else the factory takes; None means "not given".
            **common: What every factory takes: ``model``, ``device`` and ``dtype``.

        Raises:
            GensegError: For an unknown name or option, a missing package, or a factory that returns something else.
        """
        factory = self._imported(name, self.factory(name))
        settings = {key: value for key, value in options.items() if value is not None}
        known = _options(factory) if settings else set()
        for key in settings:
            if known is not None and key not in known:
                raise unknown(f"option of {self.kind} {name!r},", key, known)
        model = factory(**common, **settings)
        if not isinstance(model, base):
            kind = type(model).__name__
            raise GensegError(f"the factory of {self.kind} {name!r} returned a {kind}, not a genseg {base.__name__}")
        return model

    def _claim(self, name: str) -> tuple[str, str]:
        """The provider and factory of a name."""
        claims = self._claims.get(name)
        if claims is None:
            raise unknown(self.kind, name, self._claims)
        if len(claims) > 1:
            providers = " and ".join(provider for provider, _ in claims)
            raise GensegError(f"{self.kind} name {name!r} is claimed by {providers}; uninstall one of them")
        return claims[0]

    def _info(self, name: str, provider: str, factory: str) -> PluginInfo:
        try:
            function = self._imported(name, factory)
        except GensegError as error:
            return PluginInfo(name, factory, provider, "", False, str(error))
        description = (inspect.getdoc(function) or "").split("\n")[0]
        has_weights = getattr(function, "has_weights", lambda: True)
        card = getattr(function, "card", None)
        problem = "" if has_weights() else f"its weights are not on this machine; {_way_to_get(card)}"
        return PluginInfo(name, factory, provider, description, True, problem, card)

    def _imported(self, name: str, factory: str) -> Any:
        module, _, attribute = factory.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise GensegError(
                f"{self.kind} {name!r} needs the package {error.name!r}; run: pip install {error.name}"
            ) from error
        except (ImportError, AttributeError) as error:
            raise GensegError(f"{self.kind} {name!r} cannot be loaded from {factory}: {error}") from error


def _way_to_get(card: ModelCard | None) -> str:
    """Say how a model's weights come onto this machine."""
    if card is not None and card.access == "pickles":
        return f"the hub has {card.model} as pickles alone, so convert them and give their folder as model"
    if card is not None and card.access == "gated":
        return f"accept the terms of {card.model} on the hub and log in, and they are downloaded at the first use"
    return "they are downloaded at the first use"


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
