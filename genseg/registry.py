"""Find, list and load registered models: backends, encoders, embedders and upsamplers."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

from genseg.errors import GensegError
from genseg.interface import Backend, Embedder, Encoder, Upsampler
from genseg.plugins import PluginInfo, Plugins

T = TypeVar("T")


class Registry(Generic[T]):
    """Models of one kind that installed plug-ins register.

    Args:
        kind: The kind in the singular, such as ``"backend"``; plug-ins implement the hook ``register_backends``.
        base: The class that every factory of this kind must return.
    """

    def __init__(self, kind: str, base: type[T]) -> None:
        self.kind, self.base = kind, base

    @cached_property
    def plugins(self) -> Plugins:
        """The installed plug-ins, discovered on first use."""
        plugins = Plugins(self.kind)
        plugins.discover()
        return plugins

    def list(self) -> list[PluginInfo]:
        """List all registered models by name, and whether each can be used here."""
        return self.plugins.infos()

    def info(self, name: str) -> PluginInfo:
        """Describe one model, as `list` does.

        Raises:
            GensegError: If the name is unknown, or registered by two plug-ins.
        """
        return self.plugins.info(name)

    def load(
        self,
        name: str,
        *,
        model: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        **options: Any,
    ) -> T:
        """Load a model; see `load_backend`."""
        return self.plugins.load(name, self.base, options, model=model, device=device, dtype=dtype)


BACKENDS = Registry[Backend]("backend", Backend)  # type: ignore[type-abstract]
ENCODERS = Registry[Encoder]("encoder", Encoder)  # type: ignore[type-abstract]
EMBEDDERS = Registry[Embedder]("embedder", Embedder)  # type: ignore[type-abstract]
UPSAMPLERS = Registry[Upsampler]("upsampler", Upsampler)  # type: ignore[type-abstract]


def list_backends() -> list[PluginInfo]:
    """List all registered backends by name, and whether each can be used here."""
    return BACKENDS.list()


def load_backend(
    name: str, *, model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Any
) -> Backend:
    """Load a backend.

    Args:
        name: One of `list_backends`.
        model: A local checkpoint, or a hub id; None for the backend's own.
        device: A torch device such as ``"cuda:0"``; None for CUDA if it is available, else the CPU.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"auto"``; None for float32.
        **options: Further options of the backend's factory, such as ``revision="main"``; None means "not given".

    Returns:
        The backend, with its weights loaded.

    Raises:
        GensegError: If the name or an option is unknown, a package or the weights are missing, the weights do not fit,
            or the device is unavailable.
    """
    return BACKENDS.load(name, model=model, device=device, dtype=dtype, **options)


def given_backend(backend: str | Backend, **options: Any) -> Backend:
    """A backend that is given by its name or as it is.

    Args:
        backend: A name, or a loaded backend.
        **options: As for `load_backend`; None means "not given".

    Raises:
        GensegError: As `load_backend`; or if a loaded backend comes with options, which it would not heed.
    """
    if isinstance(backend, str):
        return load_backend(backend, **options)
    for key, value in options.items():
        if value is not None:
            raise GensegError(f"{key}={value!r} does not change a loaded backend; give it to load_backend instead")
    return backend


def list_embedders() -> list[PluginInfo]:
    """List all registered embedders by name, and whether each can be used here."""
    return EMBEDDERS.list()


def load_embedder(
    name: str, *, model: str | None = None, device: str | None = None, dtype: str | None = None, **options: Any
) -> Embedder:
    """Load an embedder, which names segments (EmerDiff, section 4.4).

    Args:
        name: One of `list_embedders`.
        model: A local checkpoint, or a hub id; None for the embedder's own.
        device: A torch device such as ``"cuda:0"``; None for CUDA if it is available, else the CPU.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"auto"``; None for float32.
        **options: Further options of the embedder's factory, such as ``size=224``; None means "not given".

    Returns:
        The embedder, with its weights loaded.

    Raises:
        GensegError: If the name or an option is unknown, a package or the weights are missing, the weights do not fit,
            or the device is unavailable.
    """
    return EMBEDDERS.load(name, model=model, device=device, dtype=dtype, **options)
