"""Checks of requests before Gradio sees them: addresses, routes, logins, lengths; and headers that bind the browser."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Set

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse

from genseg.web.middleware import (
    Application,
    ErrorMiddleware,
    Message,
    OwnAddressMiddleware,
    Receive,
    Scope,
    Send,
)

PUBLIC = (
    *("/", "/config", "/login", "/logout", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"),
    *(f"/gradio_api/{name}" for name in ("startup-events", "login_check", "app_id", "theme.css")),
)
PUBLIC_FOLDERS = ("/assets/", "/static/", "/svelte/")
PRIVATE = tuple(f"/gradio_api/{name}" for name in ("queue/join", "queue/data", "info"))
PRIVATE_FOLDERS = ("/image/", "/file/", "/gradio_api/heartbeat/")
"""Routes that ask for a login where there are passwords. Those of `PUBLIC` make the login page, or check themselves."""

MAX_BODY = 64 * 1024
"""Bytes of a request, unless its route takes more; those of the page have less than 4 kB."""

WRONG_PASSWORD_SECONDS = 1.0

OTHER_ADDRESS = (
    "this is not an address of the app; open the one that it printed, "
    "or set GRADIO_ROOT_PATH to the address of its proxy"
)

HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's own page needs both
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self' data:",
            "form-action 'self'",
            "frame-ancestors 'self'",
            "object-src 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def middleware(names: Set[str], origins: Set[str]) -> list[Middleware]:
    """All of this module, in the order in which a request passes it.

    Args:
        names: Host names of this server. IP addresses are always accepted, for no one can rebind them.
        origins: Public addresses, such as ``https://example.org``, under which a proxy offers this server.
    """
    return [
        Middleware(ErrorMiddleware),
        Middleware(OwnAddressMiddleware, names, origins, OTHER_ADDRESS),
        Middleware(AllowlistMiddleware),
        Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY),
        Middleware(PasswordMiddleware),
    ]


class AllowlistMiddleware:
    """Lets through what the page itself asks for, and nothing else that Gradio offers: no files, no proxy, no API."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that there is nothing or that a login is missing."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path in PUBLIC or path.startswith(PUBLIC_FOLDERS):
            await self._app(scope, receive, _with_headers(send))
        elif path not in PRIVATE and not path.startswith(PRIVATE_FOLDERS):
            await PlainTextResponse("not here", status_code=404)(scope, receive, send)
        elif _is_logged_in(scope):
            await self._app(scope, receive, _with_headers(send))
        else:
            await PlainTextResponse("log in first", status_code=401)(scope, receive, send)


def _is_logged_in(scope: Scope) -> bool:
    """Whether a request carries a token of Gradio's, as Gradio itself finds out for some of its routes."""
    app = scope["app"]
    if app.auth is None:
        return True
    cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
    return any(cookies.get(f"access-token-{kind}{app.cookie_id}") in app.tokens for kind in ("", "unsecure-"))


def _with_headers(send: Send) -> Send:
    """Add to each answer what a browser must not do with the page."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_with_headers


class PasswordMiddleware:
    """Lets each address, or each network of IPv6, try one password at a time; answers a wrong one after a second."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._trying: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it while another of its address is checked."""
        if scope["type"] != "http" or scope["path"] != "/login":
            await self._app(scope, receive, send)
            return
        address = _caller((scope["client"] or ("",))[0])
        if address in self._trying:
            words = "another password is being checked; try again in a second"
            await PlainTextResponse(words, status_code=429)(scope, receive, send)
            return

        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                await asyncio.sleep(WRONG_PASSWORD_SECONDS)
            await send(message)

        self._trying.add(address)
        try:
            await self._app(scope, receive, send_late)
        finally:
            self._trying.discard(address)


def _caller(address: str) -> str:
    """An address or, of IPv6, the first 64 bits of it: one customer of a provider has all that follow."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if known.version == 4:
        return address
    return str(known.ipv4_mapped or ipaddress.ip_network((int(known) >> 64 << 64, 64)))
