"""The hooks through which backends, encoders, embedders and upsamplers register: genseg's own and anyone's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pluggy

hookspec = pluggy.HookspecMarker("genseg")
hookimpl = pluggy.HookimplMarker("genseg")

Register: TypeAlias = Callable[[str, str], None]


@hookspec
def register_backends(register: Register) -> None:
    """Register backends by name.

    Call ``register("sd15", "genseg_backends.families.stable_diffusion:sd15")`` for each: the second argument names a
    factory as ``"module:callable"``, imported only when the backend is used. The factory takes ``model=``,
    ``device=`` and ``dtype=`` (each may be None) and returns a `genseg.interface.Backend`; the first line of its
    docstring describes it in listings.
    """


@hookspec
def register_encoders(register: Register) -> None:
    """Register vision encoders by name, as `register_backends` does backends.

    The factory returns a `genseg.interface.Encoder`.
    """


@hookspec
def register_embedders(register: Register) -> None:
    """Register embedders, which name segments, by name.

    Call ``register("maskclip", "genseg_backends.embedders.maskclip:maskclip")`` for each, as with backends: the factory
    takes ``model=``, ``device=`` and ``dtype=`` and returns a `genseg.interface.Embedder`.
    """


@hookspec
def register_upsamplers(register: Register) -> None:
    """Register upsamplers, which bring features to the resolution of their image, by name.

    Call ``register("anyup", "genseg_anyup.upsampler:anyup")`` for each, as with backends: the factory takes ``model=``,
    ``device=`` and ``dtype=`` and returns a `genseg.interface.Upsampler`. The name is then a method of
    `genseg.upsample` and of ``genseg evaluate``.
    """
