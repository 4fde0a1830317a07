"""The one exception that users meet: a sentence that says what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # end lines, or make terminals do something


class GensegError(ValueError):
    """Something about the input, the recipe or the installation must change; the message says what."""


class ImageError(GensegError):
    """One image cannot be used; the others of a batch can."""


class NotAnImageError(ImageError):
    """A file is no image, or of a format that is not read."""


class TooLargeError(ImageError):
    """An image has more pixels than allowed."""


class NothingLeftError(GensegError):
    """All images failed; the message is that of the first failure."""


def unknown(kind: str, name: str, known: Iterable[str]) -> GensegError:
    """The error for a name that is not among ``known``: those that it begins, or else is like, then the list."""
    names = sorted(known)
    near = [each for each in names if name and each.startswith(name)][:3]
    near = near or difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return GensegError(f"unknown {kind} {name!r}: {hint}available: {', '.join(names) or 'none'}")


def in_one_line(text: str) -> str:
    r"""A text for a terminal: control characters, as in strangers' file names, become ``\\n`` or ``\\x1b``."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def whole_number(text: str) -> int | None:
    """A number of digits alone, from 0; None for anything else, and for more digits than Python reads."""
    try:
        return int(text) if text.isdecimal() else None
    except ValueError:
        return None


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


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # torch, on any device
LIBRARY_OUT_OF_MEMORY = (  # cuBLAS and cuDNN, whose last two errors have other causes at times
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "allocation_failed",  # cuDNN 9
    "unable to find a valid cudnn algorithm",
    "unable to find an engine",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is a MemoryError, or an error of torch, cuBLAS or cuDNN that says so."""
    return isinstance(error, MemoryError) or _says(error, OUT_OF_MEMORY + LIBRARY_OUT_OF_MEMORY)


def user_message(error: Exception) -> str:
    """A sentence for users: what to do or, for an error that genseg does not expect, what to report."""
    if isinstance(error, GensegError):
        return str(error)
    if is_out_of_memory(error):
        cause = f" ({error})" if _says(error, LIBRARY_OUT_OF_MEMORY) else ""
        return (
            f"out of memory{cause}, although batches are halved until they fit; choose a smaller size, such as "
            "size=256, or, on a small graphics card, offload=true"
        )
    return f"unexpected {type(error).__name__}: {error}; please report it"


def _says(error: BaseException, signs: Iterable[str]) -> bool:
    message = str(error).lower()
    return any(sign in message for sign in signs)
