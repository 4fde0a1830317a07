"""Answers of the service: JSON, and for what is refused a sentence and a status code."""

from __future__ import annotations

from starlette.responses import JSONResponse

from genseg.errors import GensegError, NotAnImageError, TooLargeError
from genseg.web.engine import QueueFullError


class RefusedError(GensegError):
    """A request cannot be answered.

    Args:
        message: A sentence that says what to do.
        status: Of HTTP.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class StoppedError(Exception):
    """Raised by a progress callback: whoever asked has left, or the service ends."""


def failure(words: str, status: int) -> JSONResponse:
    """Return the answer to a request that is refused."""
    return JSONResponse({"error": words}, status)


def status_of(error: GensegError) -> int:
    """Return the status code of an error that users can do something about."""
    match error:
        case RefusedError():
            return error.status
        case QueueFullError():
            return 503
        case TooLargeError():
            return 413
        case NotAnImageError():
            return 415
    return 400
