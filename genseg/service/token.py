"""The token of the service, in each way in which tools send one."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator

from starlette.datastructures import Headers

from genseg.errors import GensegError
from genseg.service.answers import failure
from genseg.web.middleware import Application, Receive, Scope, Send

SHORTEST = 16
"""Characters of a token: shorter ones could be guessed, since nothing slows guesses down."""

OPEN = ("/", "/health")
"""Routes that only say that the service is up."""

MISSING = (
    "the token is missing or wrong; send it as 'Authorization: Bearer TOKEN', as the password of any user, "
    "or as 'Token: TOKEN'"
)


def checked_token(token: str) -> str:
    """Return a token that is long enough.

    Raises:
        GensegError: If it is not.
    """
    if len(token) < SHORTEST:
        raise GensegError(f"a token needs at least {SHORTEST} characters; try the output of: openssl rand -hex 16")
    return token


class TokenMiddleware:
    """Answers requests without the token with status 401."""

    def __init__(self, app: Application, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN and not self._has_token(Headers(scope=scope)):
            refusal = failure(MISSING, 401)
            refusal.headers["www-authenticate"] = 'Basic realm="genseg"'
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _has_token(self, headers: Headers) -> bool:
        return any(hmac.compare_digest(sent, self._token) for sent in _sent(headers))


def _sent(headers: Headers) -> Iterator[bytes]:
    """The tokens of a request: Label Studio sends a user and a password, X-AnyLabeling a header of its own."""
    yield headers.get("token", "").encode("latin-1")
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip().encode("latin-1")
    elif scheme.lower() == "basic":
        try:
            yield base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return
