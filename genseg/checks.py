"""Checks of arguments that several functions take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, TypeVar

from PIL import Image

from genseg.errors import GensegError

T = TypeVar("T")


def checked_seed(seed: Any) -> int:
    """A seed as Python's own number.

    Raises:
        GensegError: If it is no whole number, or below 0.
    """
    if not isinstance(seed, Integral):
        raise GensegError(f"seed must be a whole number, not {seed!r}")
    if seed < 0:
        raise GensegError(f"seed must be at least 0, not {seed}")
    return int(seed)


def is_share(value: Any) -> bool:
    """Whether a value is a number in [0, 1]."""
    return isinstance(value, Real) and 0 <= float(value) <= 1


def check_share(name: str, value: Any) -> None:
    """Check an argument that is a share.

    Raises:
        GensegError: If it is no number in [0, 1].
    """
    if not is_share(value):
        raise GensegError(f"{name} must lie in [0, 1], not be {value!r}")


def several(given: Iterable[T], kind: str) -> Iterable[T]:
    """Return what was given where several are wanted, such as images.

    Args:
        given: An iterable of them.
        kind: What they are, in the plural, for errors.

    Raises:
        GensegError: If it is one of them, such as a path, whose letters would be taken one by one.
    """
    if isinstance(given, (str, bytes, os.PathLike, Image.Image)) or not isinstance(given, Iterable):
        raise GensegError(f"give a list of {kind}, not a {type(given).__name__}")
    return given
