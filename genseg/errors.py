"""The one exception that users meet: a sentence that says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class GensegError(ValueError):
    """Something about the input, the recipe or the installation must change; the message says what."""


class ImageError(GensegError):
    """One image cannot be used; the others of a batch can."""


class NothingLeftError(GensegError):
    """All images failed; the message is that of the first failure."""


def unknown(kind: str, name: str, known: Iterable[str]) -> GensegError:
    """The error for a name that is not among ``known``: nearest matches first, then the list."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return GensegError(f"unknown {kind} {name!r}: {hint}available: {', '.join(names) or 'none'}")


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Name the cure where a package is missing.

    Args:
        extra: Of genseg, which brings the package.
        what: Who needs it, such as ``"runs need"``.

    Raises:
        GensegError: In place of ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise GensegError(f"{what} the package {error.name!r}; run: pip install 'genseg[{extra}]'") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is Python's, CUDA's (torch.OutOfMemoryError) or, a bare RuntimeError, torch's on the CPU."""
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def user_message(error: Exception) -> str:
    """A sentence for users: what to do or, for an error that genseg does not expect, what to report."""
    if isinstance(error, GensegError):
        return str(error)
    if is_out_of_memory(error):
        return (
            "out of memory, although batches are halved until they fit; choose a smaller size, such as size=256, "
            "or, on a small graphics card, offload=true"
        )
    return f"unexpected {type(error).__name__}: {error}; please report it"
