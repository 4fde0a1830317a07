"""Checks of requests that every server makes: its own addresses alone, and one line of the log for a failure."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Set
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Respond: TypeAlias = Callable[[str, int], Response]
"""Makes the answer to a request that is refused, of a sentence and a status code."""

LOG = logging.getLogger("genseg.web")


class ErrorMiddleware:
    """Logs what a server does not expect of a request in one line, where it would log a traceback."""

    def __init__(self, app: Application, respond: Respond = PlainTextResponse) -> None:
        self._app, self._respond = app, respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; answer with status 500 if that fails."""
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:  # whatever a request may bring about
            if scope["type"] != "http":
                raise
            log_failure(f"a request to {scope['path']!r}", error)
            if not started:
                await self._respond("this request cannot be answered", 500)(scope, receive, send)


def log_failure(what: str, error: Exception) -> None:
    """Log an error that visitors can cause in one line, and its traceback only for those who debug."""
    LOG.warning("%s failed: %.200r", what, error)
    LOG.debug("its traceback:", exc_info=error)


class OwnAddressMiddleware:
    """Refuses requests that other pages send, or that arrive under a name that is not the server's (DNS rebinding).

    Args:
        app: Answers the others.
        names: Host names of this server. IP addresses are always accepted, for no one can rebind them.
        origins: Public addresses, such as ``https://example.org``, under which a proxy offers this server.
        refusal: A sentence that says what to do.
        respond: Makes the answer.
    """

    def __init__(
        self,
        app: Application,
        names: Set[str],
        origins: Set[str],
        refusal: str,
        respond: Respond = PlainTextResponse,
    ) -> None:
        self._app, self._names, self._origins = app, names, origins
        self._refusal, self._respond = refusal, respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        if headers is None or (self._is_own_host(headers.get("host", "")) and self._is_own_origin(headers)):
            await self._app(scope, receive, send)
        else:
            await self._respond(self._refusal, 403)(scope, receive, send)

    def _is_own_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_ip_address(name) or host in (urlsplit(url).netloc for url in self._origins)

    def _is_own_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        return origin is None or origin in self._origins or origin.partition("://")[2] == headers.get("host")


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
