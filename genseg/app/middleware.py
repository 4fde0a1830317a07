"""What the server answers at all, and what a browser must not do with the answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

OPEN = ("/", "/config", "/login", "/logout", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json")
OPEN_API = ("queue/join", "queue/data", "heartbeat/", "startup-events", "login_check", "app_id", "theme.css", "info")
OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/", "/image/", "/file/")

POLICY = "; ".join(
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
)


class Gate:
    """Lets through what the page itself asks for, and nothing else that Gradio offers: no files, no proxy, no API."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that there is nothing."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _is_open(scope["path"]):
            await self._app(scope, receive, _guarded(send))
        else:
            await PlainTextResponse("not here", status_code=404)(scope, receive, send)


def _is_open(path: str) -> bool:
    api = path.removeprefix("/gradio_api/")
    return (
        path in OPEN
        or path.startswith(OPEN_FOLDERS)
        or (
            api != path
            and any(api.rstrip("/") == name or (name[-1] == "/" and api.startswith(name)) for name in OPEN_API)
        )
    )


def _guarded(send: Send) -> Send:
    """Add to each answer what a browser must not do with the page."""
    headers = {
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }

    async def guarded(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in headers.items()]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return guarded
